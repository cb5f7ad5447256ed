(() => {
  const map = document.getElementById("map"), strength = document.getElementById("strength");
  const cards = [...document.querySelectorAll(".card")];

  function choose(card) {
    for (const other of cards) other.removeAttribute("aria-current");
    card.setAttribute("aria-current", "true");
    if (!map) return;
    for (const square of map.querySelectorAll(".chosen")) square.classList.remove("chosen");
    const square = document.getElementById("at-" + card.dataset.number);
    square.classList.add("chosen");
    square.parentNode.append(square); // over its neighbours
    map.classList.add("one");
    map.scrollIntoView({ block: "nearest" });
  }

  function step(event, card) {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const next = by && cards[cards.indexOf(card) + by];
    if (!next || event.ctrlKey || event.metaKey || event.altKey) return;
    next.focus();
    event.preventDefault();
  }

  for (const card of cards) {
    card.addEventListener("click", () => choose(card));
    card.addEventListener("keydown", (event) => step(event, card));
  }
  if (!map) return;

  function show() {
    const chosen = document.querySelector("input[name=layer]:checked").value;
    for (const layer of map.querySelectorAll(".places")) {
      layer.hidden = chosen !== "all" && chosen !== layer.dataset.layer;
      layer.style.opacity = strength.value / 100;
    }
  }
  for (const input of document.querySelectorAll("input[name=layer]")) input.addEventListener("change", show);
  strength.addEventListener("input", show);
  show();
})();
