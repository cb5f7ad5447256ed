(() => {
  const view = document.getElementById("view"), stage = document.getElementById("stage");
  const scale = document.querySelector("#scale i"), scaleText = document.querySelector("#scale span");
  const where = document.getElementById("where"), under = document.getElementById("under"), chosen = document.getElementById("chosen");
  const aspect = Number(view.dataset.aspect), mpp = Number(view.dataset.mpp), l0Width = Number(view.dataset.l0Width);
  const tables = readTables();
  // The stage is as wide as the slide shown whole; left, top and zoom place it in the view.
  let width = 1, height = 1, left = 0, top = 0, zoom = 1, most = 40;
  const marked = new Map(); // each mark's square in level-0 pixels: [x, y, side]

  function fit() {
    const box = view.getBoundingClientRect();
    width = Math.min(box.width, box.height * aspect);
    height = width / aspect;
    stage.style.width = width + "px";
    stage.style.height = height + "px";
    const tile = tables[0].side / tables[0].step / l0Width * width;
    most = Math.max(40, Math.min(box.width, box.height) / 2 / tile);
    zoom = 1;
    left = (box.width - width) / 2;
    top = (box.height - height) / 2;
    place();
  }

  function place() {
    const box = view.getBoundingClientRect();
    const keep = 40; // pixels of the slide that always stay in sight
    left = Math.min(box.width - keep, Math.max(keep - width * zoom, left));
    top = Math.min(box.height - keep, Math.max(keep - height * zoom, top));
    stage.style.transform = `translate(${left}px,${top}px) scale(${zoom})`;
    view.dataset.zoom = zoom.toFixed(3);
    const bar = scaleBar(mpp * l0Width / width / zoom, Math.min(150, box.width / 4));
    scale.style.width = bar.pixels + "px";
    scaleText.textContent = bar.label;
    for (const mark of [under, chosen]) draw(mark);
  }

  function draw(mark) {
    const square = marked.get(mark);
    mark.hidden = !square;
    if (!square) return;
    const [x, y, side] = square, perPixel = width * zoom / l0Width;
    mark.style.transform = `translate(${left + x * perPixel}px,${top + y * perPixel}px)`;
    mark.style.width = mark.style.height = Math.max(2, side * perPixel) + "px";
  }

  function mark(element, square) {
    if (square) marked.set(element, square); else marked.delete(element);
    draw(element);
  }

  function resized() {
    const box = view.getBoundingClientRect(), before = { x: (box.width / 2 - left) / width / zoom, y: (box.height / 2 - top) / height / zoom, zoom };
    const whole = zoom === 1;
    fit();
    if (whole) return;
    zoom = Math.min(most, before.zoom);
    centre(before.x, before.y);
  }

  function centre(x, y) {
    const box = view.getBoundingClientRect();
    left = box.width / 2 - x * width * zoom;
    top = box.height / 2 - y * height * zoom;
    place();
  }

  function zoomAt(factor, x, y) {
    const next = Math.min(most, Math.max(1, zoom * factor));
    left = x - (x - left) * next / zoom;
    top = y - (y - top) * next / zoom;
    zoom = next;
    if (zoom === 1) fit(); else place();
  }

  function zoomMiddle(factor) {
    const box = view.getBoundingClientRect();
    zoomAt(factor, box.width / 2, box.height / 2);
  }

  function tell(viewX, viewY) {
    const perPixel = width * zoom / l0Width, x = (viewX - left) / perPixel, y = (viewY - top) / perPixel;
    const inside = x >= 0 && x < l0Width && y >= 0 && y < l0Width / aspect;
    const tiles = inside ? tilesAt(tables, x, y, Number(layerShown().replace("level", ""))) : [];
    mark(under, tiles.length ? tiles[0].square : null);
    if (inside) tellTiles(where, tiles, x, y, mpp); else where.replaceChildren();
  }

  function tellMiddle() {
    const box = view.getBoundingClientRect();
    view.classList.add("by-key");
    tell(box.width / 2, box.height / 2);
  }

  function silent() {
    where.replaceChildren();
    mark(under, null);
  }

  function tellPointer(event) {
    const box = view.getBoundingClientRect();
    view.classList.remove("by-key");
    tell(event.clientX - box.left, event.clientY - box.top);
  }

  view.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = view.getBoundingClientRect();
    zoomAt(Math.exp(-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top);
    tellPointer(event);
  }, { passive: false });

  const pointers = new Map();
  view.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, event);
    view.setPointerCapture(event.pointerId);
    tellPointer(event);
  });
  view.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (before && pointers.size === 2) {
      const other = [...pointers.values()].find((one) => one.pointerId !== event.pointerId);
      const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
      const box = view.getBoundingClientRect();
      zoomAt(apart(event) / Math.max(1, apart(before)), other.clientX - box.left, other.clientY - box.top);
    } else if (before) {
      left += event.clientX - before.clientX;
      top += event.clientY - before.clientY;
      place();
    }
    if (before) pointers.set(event.pointerId, event);
    tellPointer(event);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    view.addEventListener(name, (event) => pointers.delete(event.pointerId));
  }
  view.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") silent(); }); // a finger that is lifted leaves its answer
  view.addEventListener("dblclick", (event) => {
    const box = view.getBoundingClientRect();
    zoomAt(2, event.clientX - box.left, event.clientY - box.top);
  });
  view.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[event.key];
    if (step) { left += step[0]; top += step[1]; place(); }
    else if (event.key === "+" || event.key === "=") zoomMiddle(1.5);
    else if (event.key === "-") zoomMiddle(1 / 1.5);
    else if (event.key === "0") fit();
    else return;
    tellMiddle();
    event.preventDefault();
  });
  view.addEventListener("blur", silent);
  document.getElementById("zoom-in").addEventListener("click", () => zoomMiddle(1.5));
  document.getElementById("zoom-out").addEventListener("click", () => zoomMiddle(1 / 1.5));
  document.getElementById("fit").addEventListener("click", fit);

  const cards = [...document.querySelectorAll(".card")];
  function go(card) {
    const x = Number(card.dataset.x), y = Number(card.dataset.y), side = Number(card.dataset.side);
    const box = view.getBoundingClientRect();
    zoom = Math.min(most, Math.max(1, Math.min(box.width, box.height) / 5 / (side / l0Width * width)));
    centre((x + side / 2) / l0Width, (y + side / 2) / l0Width * aspect);
    mark(chosen, [x, y, side]);
    tell(view.clientWidth / 2, view.clientHeight / 2);
    for (const other of cards) other.removeAttribute("aria-current");
    card.setAttribute("aria-current", "true");
    const pixels = card.querySelector("img");
    if (pixels && !card.dataset.laid) { // sharp where the slide is shown reduced
      const image = pixels.cloneNode();
      image.className = "tile";
      image.style = `left:${100 * x / l0Width}%;top:${100 * y / l0Width * aspect}%;width:${100 * side / l0Width}%;height:${100 * side / l0Width * aspect}%`;
      stage.querySelector(".base").after(image);
      card.dataset.laid = "yes";
    }
    view.scrollIntoView({ block: "nearest" });
  }
  for (const card of cards) card.addEventListener("click", () => go(card));

  const strength = document.getElementById("strength");
  function shade() {
    for (const layer of document.querySelectorAll(".layer")) layer.style.opacity = strength.value / 100;
  }
  strength.addEventListener("input", shade);

  function layerShown() {
    return document.querySelector("input[name=layer]:checked").value;
  }

  function choose() {
    const name = layerShown();
    for (const layer of document.querySelectorAll(".layer")) layer.hidden = layer.id !== "layer-" + name;
    const legends = ["look", "attention", "contribution", "explained"];
    for (const legend of legends.map((one) => document.getElementById("legend-" + one))) {
      if (legend) legend.hidden = legend.id !== "legend-" + name;
    }
    document.getElementById("legend-scores").hidden = legends.includes(name) || name === "none";
  }
  for (const input of document.querySelectorAll("input[name=layer]")) input.addEventListener("change", choose);

  addEventListener("resize", resized);
  shade();
  choose();
  fit();
})();
