"use strict";
(() => {
  const view = document.getElementById("view"), stage = document.getElementById("stage");
  const scale = document.querySelector("#scale i"), where = document.getElementById("where");
  const aspect = Number(view.dataset.aspect), mpp = Number(view.dataset.mpp), l0Width = Number(view.dataset.l0Width);
  const scaleShare = Number(scale.dataset.share), scaleText = document.querySelector("#scale span").textContent;
  const most = 40;
  // The stage is as wide as the slide shown whole; left, top and zoom place it in the view.
  let width = 1, height = 1, left = 0, top = 0, zoom = 1;

  function fit() {
    const box = view.getBoundingClientRect();
    width = Math.min(box.width, box.height * aspect);
    height = width / aspect;
    stage.style.width = width + "px";
    stage.style.height = height + "px";
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
    // halve the bar's length in um for each doubling of the zoom, so that it stays short
    const halvings = Math.max(0, Math.floor(Math.log2(zoom)));
    scale.style.width = scaleShare * width * zoom / 2 ** halvings + "px";
    document.querySelector("#scale span").textContent = halvings ? halved(scaleText, halvings) : scaleText;
  }

  function halved(text, halvings) {
    const [number, unit] = text.split(" ");
    const um = Number(number) * (unit === "mm" ? 1000 : 1) / 2 ** halvings;
    return um >= 1000 ? `${um / 1000} mm` : `${Number(um.toPrecision(3))} µm`;
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

  function tell(event) {
    const box = view.getBoundingClientRect();
    const x = (event.clientX - box.left - left) / zoom / width, y = (event.clientY - box.top - top) / zoom / height;
    const inside = x >= 0 && x <= 1 && y >= 0 && y <= 1;
    const px = Math.floor(x * l0Width), py = Math.floor(y * l0Width / aspect);
    where.textContent = inside ? `x ${px}, y ${py} px  (${(px * mpp / 1000).toFixed(2)}, ${(py * mpp / 1000).toFixed(2)} mm)` : "";
  }

  view.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = view.getBoundingClientRect();
    zoomAt(Math.exp(-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });

  const pointers = new Map();
  view.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, event);
    view.setPointerCapture(event.pointerId);
  });
  view.addEventListener("pointermove", (event) => {
    tell(event);
    const before = pointers.get(event.pointerId);
    if (!before) return;
    if (pointers.size === 2) {
      const other = [...pointers.values()].find((one) => one.pointerId !== event.pointerId);
      const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
      const box = view.getBoundingClientRect();
      zoomAt(apart(event) / Math.max(1, apart(before)), other.clientX - box.left, other.clientY - box.top);
    } else {
      left += event.clientX - before.clientX;
      top += event.clientY - before.clientY;
      place();
    }
    pointers.set(event.pointerId, event);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    view.addEventListener(name, (event) => pointers.delete(event.pointerId));
  }
  view.addEventListener("pointerleave", () => { where.textContent = ""; });
  view.addEventListener("dblclick", (event) => {
    const box = view.getBoundingClientRect();
    zoomAt(2, event.clientX - box.left, event.clientY - box.top);
  });
  view.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[event.key];
    if (step) { left += step[0]; top += step[1]; place(); }
    else if (event.key === "+") zoomMiddle(1.5);
    else if (event.key === "-") zoomMiddle(1 / 1.5);
    else if (event.key === "0") fit();
    else return;
    event.preventDefault();
  });
  document.getElementById("zoom-in").addEventListener("click", () => zoomMiddle(1.5));
  document.getElementById("zoom-out").addEventListener("click", () => zoomMiddle(1 / 1.5));
  document.getElementById("fit").addEventListener("click", fit);

  const strength = document.getElementById("strength");
  function shade() {
    for (const layer of document.querySelectorAll(".layer")) layer.style.opacity = strength.value / 100;
  }
  strength.addEventListener("input", shade);

  function choose() {
    const name = document.querySelector("input[name=layer]:checked").value;
    for (const layer of document.querySelectorAll(".layer")) layer.hidden = layer.id !== "layer-" + name;
    document.getElementById("legend-look").hidden = name !== "look";
    document.getElementById("legend-scores").hidden = name === "look" || name === "none";
  }
  for (const input of document.querySelectorAll("input[name=layer]")) input.addEventListener("change", choose);

  addEventListener("resize", fit);
  shade();
  choose();
  fit();
})();
