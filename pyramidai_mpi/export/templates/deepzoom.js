(() => {
  const view = document.getElementById("view"), where = document.getElementById("where"), under = document.getElementById("under");
  const scale = document.querySelector("#scale i"), scaleText = document.querySelector("#scale span");
  const mpp = Number(view.dataset.mpp), downsample = Number(view.dataset.downsample);
  const l0Width = Number(view.dataset.l0Width), l0Height = Number(view.dataset.l0Height);
  const tables = readTables(), layers = JSON.parse(document.getElementById("layers").textContent);
  let square = null; // of the tile that is told of, in level-0 pixels: [x, y, side]

  const viewer = OpenSeadragon({
    id: "viewer",
    drawer: "canvas", // pictures from the disk must not be read back, which WebGL would
    crossOriginPolicy: false,
    showNavigationControl: false,
    showNavigator: true,
    navigatorPosition: "TOP_RIGHT",
    navigatorSizeRatio: 0.16,
    navigatorBackground: "#e9ecf1",
    navigatorBorderColor: "#9aa6b5",
    navigatorDisplayRegionColor: "#b3202e",
    maxZoomPixelRatio: 24,
    visibilityRatio: 0.3,
    animationTime: matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 0.4,
    gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
    tileSources: layers.map((layer, n) => ({
      opacity: n === 0 ? 1 : 0,
      x: 0,
      y: 0,
      width: 1,
      tileSource: { Image: {
        xmlns: "http://schemas.microsoft.com/deepzoom/2008",
        Url: `${layer.name}_files/`,
        Format: layer.kind,
        Overlap: "0",
        TileSize: String(layer.tile),
        Size: { Width: String(layer.width), Height: String(layer.height) },
      } },
    })),
  });

  const strength = document.getElementById("strength");
  function choose() {
    const name = document.querySelector("input[name=layer]:checked").value;
    for (let n = 1; n < viewer.world.getItemCount(); n++) {
      viewer.world.getItemAt(n).setOpacity(layers[n].name === name ? strength.value / 100 : 0);
    }
    document.getElementById("legend-look").hidden = name !== "look";
    document.getElementById("legend-scores").hidden = name !== "scores";
  }
  for (const input of document.querySelectorAll("input[name=layer]")) input.addEventListener("change", choose);
  strength.addEventListener("input", choose);

  // Level-0 pixels per pixel of the screen, and the level-0 pixel at the view's corner.
  function frame() {
    const image = viewer.world.getItemAt(0), at = (x, y) => image.viewportToImageCoordinates(viewer.viewport.pointFromPixel(new OpenSeadragon.Point(x, y), true));
    const corner = at(0, 0), next = at(100, 0);
    return { left: corner.x * downsample, top: corner.y * downsample, perPixel: (next.x - corner.x) * downsample / 100 };
  }

  function place() {
    const { left, top, perPixel } = frame();
    view.dataset.zoom = viewer.viewport.getZoom(true).toFixed(3);
    const bar = scaleBar(mpp * perPixel, Math.min(150, view.clientWidth / 4));
    scale.style.width = bar.pixels + "px";
    scaleText.textContent = bar.label;
    under.hidden = !square;
    if (square) {
      under.style.transform = `translate(${(square[0] - left) / perPixel}px,${(square[1] - top) / perPixel}px)`;
      under.style.width = under.style.height = Math.max(2, square[2] / perPixel) + "px";
    }
  }

  function tell(viewX, viewY) {
    const { left, top, perPixel } = frame(), x = left + viewX * perPixel, y = top + viewY * perPixel;
    const inside = x >= 0 && x < l0Width && y >= 0 && y < l0Height;
    const tiles = inside ? tilesAt(tables, x, y, NaN) : [];
    square = tiles.length ? tiles[0].square : null;
    if (inside) tellTiles(where, tiles, x, y, mpp); else where.replaceChildren();
    place();
  }

  function silent() {
    square = null;
    where.replaceChildren();
    place();
  }

  viewer.addHandler("open", () => {
    choose();
    place();
    viewer.canvas.setAttribute("aria-label", view.getAttribute("aria-label"));
    view.dataset.ready = "yes";
    for (const name of ["animation", "resize", "update-viewport"]) viewer.addHandler(name, place);
    const tellPointer = (event) => {
      const box = view.getBoundingClientRect();
      view.classList.remove("by-key");
      tell(event.clientX - box.left, event.clientY - box.top);
    };
    view.addEventListener("pointermove", tellPointer);
    view.addEventListener("pointerdown", tellPointer);
    view.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") silent(); }); // a finger that is lifted leaves its answer
    viewer.canvas.addEventListener("keydown", () => view.classList.add("by-key"));
    viewer.canvas.addEventListener("blur", silent);
    viewer.addHandler("animation", () => { if (view.classList.contains("by-key")) tell(view.clientWidth / 2, view.clientHeight / 2); });
  });
  viewer.addHandler("canvas-key", (event) => { // no turning and mirroring, by which a place is hard to find again
    if (["f", "r", "j", "k"].includes(event.originalEvent.key.toLowerCase())) event.preventDefaultAction = true;
  });
  const zoomBy = (factor) => { viewer.viewport.zoomBy(factor); viewer.viewport.applyConstraints(); };
  document.getElementById("zoom-in").addEventListener("click", () => zoomBy(1.5));
  document.getElementById("zoom-out").addEventListener("click", () => zoomBy(1 / 1.5));
  document.getElementById("fit").addEventListener("click", () => viewer.viewport.goHome());
})();
