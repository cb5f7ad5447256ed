// A result over its slide. Coordinates are level-0 pixels of the slide; layers are pyramids like the slide itself.

import { Drawing, drawFrames, Outlines } from "./drawing.js";
import { TileGrid, Tissue } from "./grid.js";
import { bestRows, element, layerRow, micrometres, scoreText, showExplained, showHere, showThumbnails, thousands } from "./panel.js";

const byId = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
const narrow = matchMedia("(max-width: 760px)");

function complain(text) {
  if ([...byId("banners").children].some((one) => one.textContent === text)) return;
  byId("banners").append(element("p", { role: "alert", textContent: text }));
}

async function ask(what, kind = "json") {
  let answer;
  try {
    answer = await fetch(what);
  } catch {
    throw new Error("The program that serves this page has ended: start pyramidai view again.");
  }
  if (!answer.ok) throw new Error(`The program says: ${(await answer.text()).trim()}`);
  return answer[kind]();
}

function pyramid(result, address) {
  const { width, height } = result.slide;
  const maxLevel = Math.ceil(Math.log2(Math.max(width, height, 2)));
  return {
    width, height, tileSize: result.tileSize, tileOverlap: 0, maxLevel, minLevel: Math.max(0, maxLevel - result.zooms + 1),
    getTileUrl: (level, col, row) => address(maxLevel - level, col, row),
  };
}

function start(result, grid, tissue) {
  const { width, height, name, mpp } = result.slide;
  document.title = name;
  byId("name").textContent = name;
  byId("name").title = name;
  byId("about").textContent = `${result.model} · positive: ${result.positive} · ${thousands(width)} × ${thousands(height)} px, ${micrometres(mpp)}/px`;
  for (const text of [result.claim, result.warning, result.note]) if (text) complain(text);

  const viewer = OpenSeadragon({
    element: byId("viewer"),
    drawer: "canvas",
    tileSources: pyramid(result, (zoom, col, row) => `slide/${zoom}/${col}_${row}`),
    showNavigationControl: false,
    showNavigator: true,
    navigatorPosition: "TOP_RIGHT",
    navigatorSizeRatio: 0.16,
    navigatorAutoFade: false,
    navigatorBackground: "transparent",
    navigatorOpacity: 1,
    navigatorBorderColor: "#7d8794",
    navigatorDisplayRegionColor: "#d55e00",
    keyboardNavEnabled: false,
    gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
    gestureSettingsTouch: { dblClickToZoom: true, flickEnabled: !calm },
    animationTime: calm ? 0 : 0.4,
    blendTime: 0,
    visibilityRatio: 0.3,
    minZoomImageRatio: 0.7,
    maxZoomPixelRatio: 8,
    imageLoaderLimit: 6,
    timeout: 60000,
    imageSmoothingEnabled: true,
  });
  viewer.canvas.setAttribute("role", "application");
  viewer.canvas.setAttribute("aria-label", "Slide. Arrow keys move it, plus and minus zoom, question mark lists all keys.");
  viewer.navigator.element.id = "navigator";
  viewer.navigator.element.setAttribute("aria-label", "Whole slide; shows where the view is");
  viewer.addHandler("tile-load-failed", () => {
    ask("result.json").then(() => complain("Some of the slide could not be loaded: it may have been changed or taken away since the page was opened."), (error) => complain(error.message));
  });

  // --- layers ---------------------------------------------------------------------------------------------------
  const opacity = byId("opacity");
  const strength = () => opacity.value / 100;
  const outlined = (style) => ({ style, outlines: null, paint(pen, place) { this.outlines?.draw(pen, place); } });
  const layers = [ // in the order of the list; the last is drawn first
    { key: "scores", title: "Scores", shown: !result.explained, paint: (pen, place) => grid.drawScores(pen, place, strength(), tissue) },
    { key: "decisions", title: "Decisions", shown: false, paint: (pen, place) => grid.drawDecisions(pen, place, strength()) },
    { key: "tissue", title: "Tissue outline", shown: true, paint: (pen, place) => tissue.draw(pen, place, result.colours.tissue) },
    { key: "regions", title: "Positive regions", shown: false, ...outlined({ colour: result.colours.positive, halo: "rgb(255 255 255 / 90%)" }) },
    { key: "annotations", title: "Annotations", shown: true, ...outlined({ colour: result.colours.annotation, dash: [9, 4] }) },
    { key: "explained", title: "Explained tiles", shown: true, paint: (pen, place) => drawFrames(pen, result.explained.frames, place) },
    { key: "slide", title: result.hasSlide ? "Slide" : "Tissue mask", shown: true },
  ].filter(({ key }) => !["annotations", "explained"].includes(key) || result[key]);
  const drawing = new Drawing(viewer, result.slide,
    layers.filter(({ paint }) => paint).map((layer) => (pen, place) => { if (layer.shown) layer.paint(pen, place); }));

  async function apply(layer) {
    layer.box.checked = layer.shown;
    if (layer.key === "slide") item().setOpacity(layer.shown ? 1 : 0);
    if (layer.key === "explained") shadeExplained();
    drawing.draw();
    if (layer.style && layer.shown && !layer.outlines) {
      layer.outlines = new Outlines([], "#000");
      try {
        const { shapes, leftOut } = await ask(`${layer.key}.json`);
        layer.outlines = new Outlines(shapes, layer.style.colour, layer.style);
        if (leftOut) complain(`${layer.title}: ${thousands(shapes.length)} are drawn, ${thousands(leftOut)} more are not.`);
      } catch (error) {
        complain(error.message);
      }
      drawing.draw();
    }
  }

  function change(layer, shown) {
    layer.shown = shown;
    apply(layer);
    remember();
  }

  layers.forEach((layer, index) => {
    layer.number = String(index + 1);
    const { row, box } = layerRow(layer, layer.number, result, change);
    layer.box = box;
    byId("layers").append(row);
  });
  let explained = null; // a picture of its own over that of the slide, once that is there
  function shadeExplained() {
    explained?.setOpacity(layers.find(({ key }) => key === "explained").shown ? strength() : 0);
  }
  function shade() {
    shadeExplained();
    byId("opacity-value").textContent = `${opacity.value} %`;
    drawing.draw();
    remember();
  }
  opacity.addEventListener("input", shade);

  // --- where one is ---------------------------------------------------------------------------------------------
  const item = () => viewer.world.getItemAt(0);
  const l0PerPixel = () => width / viewer.viewport.getZoom(true) / viewer.viewport.getContainerSize().x;

  function centre() {
    const point = item().viewportToImageCoordinates(viewer.viewport.getCenter(true));
    return { x: Math.round(point.x), y: Math.round(point.y) };
  }

  function goTo(x, y, downsample, immediately = calm) {
    const across = downsample * viewer.viewport.getContainerSize().x / width;
    viewer.viewport.panTo(item().imageToViewportCoordinates(new OpenSeadragon.Point(x, y)), immediately);
    viewer.viewport.zoomTo(1 / across, null, immediately);
    remember();
  }

  let remembering = 0, ready = false;
  function remember() {
    if (!ready) return;
    byId("stage").ariaBusy = "true";
    clearTimeout(remembering);
    remembering = setTimeout(() => {
      const { x, y } = centre();
      const on = layers.filter((layer) => layer.shown).map((layer) => layer.key).join(",");
      history.replaceState(null, "", `#x=${x}&y=${y}&d=${Number(l0PerPixel().toPrecision(4))}&layers=${on}&opacity=${opacity.value}`);
      byId("stage").ariaBusy = "false";
    }, 150);
  }

  function recall() {
    const said = new URLSearchParams(location.hash.slice(1));
    const [x, y, d] = ["x", "y", "d"].map((key) => Number.parseFloat(said.get(key)));
    if ([x, y, d].every(Number.isFinite) && d > 0) goTo(x, y, d, true);
    const percent = Number.parseInt(said.get("opacity"), 10);
    if (percent >= 0 && percent <= 100) opacity.value = percent;
    if (said.has("layers")) {
      const on = said.get("layers").split(",");
      for (const layer of layers) layer.shown = on.includes(layer.key);
    }
    layers.forEach(apply);
    shade();
  }

  // --- what is here ---------------------------------------------------------------------------------------------
  let pointer = null, asking = false, askAgain = false;
  async function tell() {
    if (asking) { askAgain = true; return; }
    const place = pointer ?? centre();
    const inside = place.x >= 0 && place.y >= 0 && place.x < width && place.y < height;
    const words = `x ${thousands(place.x)}, y ${thousands(place.y)}`;
    if (!inside) {
      byId("where").textContent = "";
      showHere([], "outside the slide", result);
      showExplained(null);
      return;
    }
    asking = true;
    try {
      const [tiles, found] = await Promise.all([
        ask(`at/${place.x}_${place.y}`), result.explained && ask(`explained/at/${place.x}_${place.y}`),
      ]);
      showExplained(found);
      const finest = tiles[0];
      byId("where").ariaLive = pointer ? "off" : "polite";
      byId("where").textContent = finest ? `${words} · level ${finest.level}${finest.stride ? `, stride ${finest.stride}` : ""} · ${scoreText(finest)} ${finest.outcome}` : words;
      showHere(tiles, `${pointer ? "Under the pointer" : "Middle of the view"}: ${words} px`, result);
    } catch (error) {
      complain(error.message);
    }
    asking = false;
    if (askAgain) { askAgain = false; tell(); }
  }

  byId("viewer").addEventListener("pointermove", (event) => {
    if (!item()) return;
    const box = byId("viewer").getBoundingClientRect();
    const at = new OpenSeadragon.Point(event.clientX - box.left, event.clientY - box.top);
    const point = item().viewerElementToImageCoordinates(at);
    pointer = { x: Math.floor(point.x), y: Math.floor(point.y) };
    tell();
  });
  byId("viewer").addEventListener("pointerleave", () => { pointer = null; if (item()) tell(); });

  function scaleBar() {
    const perPixel = l0PerPixel() * mpp;
    const longest = 140 * perPixel, power = 10 ** Math.floor(Math.log10(longest));
    const length = [5, 2, 1].map((one) => one * power).find((one) => one <= longest);
    document.querySelector("#scale i").style.width = `${length / perPixel}px`;
    document.querySelector("#scale span").textContent = length >= 1000 ? `${length / 1000} mm` : `${Number(length.toPrecision(3))} µm`;
  }
  function moved() {
    scaleBar();
    remember();
  }
  viewer.addHandler("animation", moved);
  viewer.addHandler("animation-finish", () => { moved(); if (!pointer) tell(); });
  let isWhole = true; // then it stays whole when the window changes
  viewer.addHandler("zoom", ({ zoom }) => { isWhole = Math.abs(zoom / viewer.viewport.getHomeZoom() - 1) < 0.01; });
  viewer.addHandler("resize", () => {
    const wasWhole = isWhole;
    requestAnimationFrame(() => {
      if (wasWhole) viewer.viewport.goHome(true);
      moved();
    });
  });

  // --- the highest scores ---------------------------------------------------------------------------------------
  let chosen = -1;
  const rows = bestRows(result, choose);
  rows.forEach((row) => byId("best").append(element("li", {}, row)));
  byId("best-note").textContent = rows.length
    ? result.levels[0].stride ? "Windows; of those that show the same place, the highest. A click goes there."
    : `Level ${result.best[0].level}, ${micrometres(result.levels[result.best[0].level].spacing)}/px. A click goes there.`
    : "No tile could be scored.";
  for (const id of ["previous", "next"]) byId(id).disabled = !rows.length;

  function choose(number) {
    if (!rows.length) return;
    chosen = (number + rows.length) % rows.length;
    rows.forEach((row, n) => row.setAttribute("aria-current", String(n === chosen)));
    rows[chosen].scrollIntoView({ block: "nearest" });
    const tile = result.best[chosen];
    drawing.mark(tile);
    pointer = null;
    const size = viewer.viewport.getContainerSize();
    if (narrow.matches) togglePanel(false);
    goTo(tile.x + tile.side / 2, tile.y + tile.side / 2, 2.6 * tile.side / Math.min(size.x, size.y));
  }
  const previous = () => choose(chosen < 0 ? rows.length - 1 : chosen - 1);
  const next = () => choose(chosen + 1);
  byId("previous").addEventListener("click", previous);
  byId("next").addEventListener("click", next);

  // --- buttons and keys -----------------------------------------------------------------------------------------
  function zoom(factor) {
    viewer.viewport.zoomBy(factor, null, calm);
    viewer.viewport.applyConstraints(calm);
    remember();
  }
  function pan(right, down, share) {
    const bounds = viewer.viewport.getBounds();
    viewer.viewport.panBy(new OpenSeadragon.Point(right * share * bounds.width, down * share * bounds.height), calm);
    viewer.viewport.applyConstraints(calm);
    remember();
  }
  function whole() {
    viewer.viewport.goHome(calm);
    remember();
  }
  byId("zoom-in").addEventListener("click", () => zoom(2));
  byId("zoom-out").addEventListener("click", () => zoom(0.5));
  byId("whole").addEventListener("click", whole);

  function togglePanel(shown = byId("panel").hidden) {
    byId("panel").hidden = !shown;
    byId("panel-toggle").setAttribute("aria-expanded", String(shown));
  }
  byId("panel-toggle").addEventListener("click", () => togglePanel());
  togglePanel(!narrow.matches);
  narrow.addEventListener("change", () => togglePanel(!narrow.matches));

  const help = () => byId("help").showModal();
  byId("help-open").addEventListener("click", help);

  const strengthen = (by) => { opacity.value = Number(opacity.value) + by; shade(); };
  const keys = {
    "+": () => zoom(2), "=": () => zoom(2), "-": () => zoom(0.5), "0": whole,
    n: next, p: previous, l: () => togglePanel(), "?": help, "[": () => strengthen(-10), "]": () => strengthen(10),
  };
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || byId("help").open) return;
    const layer = layers.find(({ number }) => number === event.key);
    const arrow = arrows[event.key];
    if (arrow) {
      if (event.target.closest("aside")) return; // there they scroll, or move the slider
      pan(...arrow, event.shiftKey ? 0.9 : 0.15);
    } else if (layer) change(layer, !layer.shown);
    else if (keys[event.key]) keys[event.key]();
    else return;
    event.preventDefault();
  });
  addEventListener("hashchange", recall);

  // --- begin ----------------------------------------------------------------------------------------------------
  viewer.addHandler("open", () => {
    item().whenFullyLoaded(() => showThumbnails(result, rows));
    if (result.explained) {
      viewer.addTiledImage({
        tileSource: pyramid(result, (zoom, col, row) => `explained/${zoom}/${col}_${row}.png`),
        opacity: 0,
        success: ({ item: picture }) => { explained = picture; shadeExplained(); },
      });
    }
    ready = true;
    recall();
    moved();
    tell();
    document.body.dataset.ready = "true";
  });
}

async function load() {
  const result = await ask("result.json");
  const [picture, decisions, mask] = await Promise.all([ask("scores.png", "blob"), ask("decisions", "arrayBuffer"), ask("tissue", "arrayBuffer")]);
  const scores = await createImageBitmap(picture);
  start(result, new TileGrid(result, scores, new Uint8Array(decisions)), new Tissue(result.mask, new Uint8Array(mask)));
}

load().catch((error) => {
  complain(error.message);
  throw error;
});
