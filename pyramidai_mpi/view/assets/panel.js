// The panel beside the slide: layers with their legends, what was found here, and the tiles with the highest scores.
// Names come from files of others: they are set as text and never as markup.

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

export const thousands = (number) => number.toLocaleString("en");
export const micrometres = (um) => `${Number(um.toPrecision(3))} µm`;

export function scoreText(tile) {
  return tile.score === null ? "–" : tile.score.toFixed(3);
}

const figure = (number) => String(Number(number.toPrecision(3)));

function coloured(node, background) {
  node.style.background = background;
  return node;
}

function swatch(text, background, kind = "") {
  return element("span", {}, coloured(element("i", { className: `swatch ${kind}` }), background), text);
}

function legend(...parts) {
  return element("div", { className: "legend" }, ...parts);
}

function striped([dark, light]) {
  return `repeating-linear-gradient(135deg, ${dark} 0 3px, ${light} 3px 6px)`;
}

/** What each layer's colours mean. */
export function legendOf(key, result) {
  const { colours, levels } = result;
  if (key === "scores") {
    const ramp = coloured(element("span", { className: "ramp" }), `linear-gradient(90deg, ${colours.ramp.join(", ")})`);
    ramp.setAttribute("role", "img");
    ramp.setAttribute("aria-label", "from blue over yellow to red");
    return legend("0", ramp, "1");
  }
  if (key === "decisions") {
    const lined = `repeating-linear-gradient(135deg, rgb(0 0 0 / 28%) 0 3px, transparent 3px 6px), ${colours.positive}`;
    const parts = [swatch("positive", lined)];
    levels.forEach((level, n) => parts.push(swatch(level.stoppedIs + (level.stride ? ` at stride ${level.stride}` : n ? ` at level ${n}` : ""), level.stopped)));
    if (levels.length > 1) parts.push(swatch("zoomed into", colours.zoomed));
    parts.push(swatch("unreadable", striped(colours.unreadable)));
    return legend(...parts);
  }
  if (key === "tissue") return legend(swatch("what was taken for tissue", colours.tissue, "line"));
  if (key === "regions") return legend(swatch(`positive ${levels[0].stride ? "cells" : "tiles"} that touch`, colours.positive, "line"));
  if (key === "annotations") return legend(swatch(result.annotations, colours.annotation, "line"));
  if (key === "explained") {
    const { title, caveat, claim, low, high, signed, ramp } = result.explained;
    const bar = coloured(element("span", { className: "ramp" }), `linear-gradient(90deg, ${ramp.join(", ")})`);
    bar.setAttribute("role", "img");
    bar.setAttribute("aria-label", signed ? "from purple, against the class, over white to orange, for it" : "from dark blue over grey to yellow");
    const words = [`${title}.`, caveat, claim].filter((text) => text).join(" ");
    return element("div", {}, legend(figure(low), bar, figure(high)), element("small", { className: "soft", textContent: words }));
  }
  if (key === "slide" && result.hasSlide) return legend(swatch("cannot be read", striped(colours.unreadable)));
  return legend();
}

/** A row of the list of layers. */
export function layerRow(layer, number, result, onChange) {
  const box = element("input", { type: "checkbox", checked: layer.shown, id: `layer-${layer.key}` });
  box.addEventListener("change", () => onChange(layer, box.checked));
  const label = element("label", { title: `Key ${number}` }, box, element("span", { textContent: layer.title }), element("kbd", { textContent: number }));
  return { row: element("li", {}, label, legendOf(layer.key, result)), box };
}

/** What was found over a place, level by level. */
export function showHere(tiles, place, result) {
  document.getElementById("here-place").textContent = place;
  const rows = tiles.map((tile) => element("tr", {},
    element("td", { textContent: `${tile.level} · ${micrometres(result.levels[tile.level].spacing)}/px${tile.stride ? ` · stride ${tile.stride}` : ""}` }),
    element("td", { textContent: scoreText(tile) }),
    element("td", { textContent: tile.outcome })));
  const none = element("tr", {}, element("td", { colSpan: 3, className: "soft", textContent: "no tile was looked at here" }));
  document.querySelector("#here tbody").replaceChildren(...(rows.length ? rows : [none]));
}

/** What explained tiles say of a place. */
export function showExplained(found) {
  const said = document.getElementById("here-explained");
  said.hidden = !found || !found.tiles.length;
  if (said.hidden) return;
  const parts = found.tiles.map(({ score, repeatability, areas }) => {
    const words = [score === null ? "explained tile, unreadable" : `explained tile with score ${score.toFixed(3)}`];
    if (repeatability !== null) words.push(`repeats to ${repeatability.toFixed(2)}`);
    if (areas && areas.deletion !== null) words.push(`deletion ${areas.deletion.toFixed(2)} (random ${areas.random_deletion.toFixed(2)}), insertion ${areas.insertion.toFixed(2)} (random ${areas.random_insertion.toFixed(2)})`);
    return words.join("; ");
  });
  said.textContent = `Attribution ${found.attribution === null ? "–" : figure(found.attribution)}: ${parts.join(". ")}`;
}

/** The list of tiles with the highest scores. */
export function bestRows(result, onChoose) {
  return result.best.map((tile, number) => {
    const picture = result.hasSlide
      ? element("img", { alt: "", width: 48, height: 48 })
      : element("span", { className: "blank" });
    const button = element("button", { type: "button" }, picture,
      element("b", { textContent: scoreText(tile) }),
      element("small", { textContent: `x ${thousands(tile.x)}, y ${thousands(tile.y)} · ${tile.outcome}` }));
    button.addEventListener("click", () => onChoose(number));
    return button;
  });
}

/** The pictures of that list, which wait until the slide itself is there. */
export function showThumbnails(result, rows) {
  rows.forEach((row, number) => {
    const { level, col, row: line } = result.best[number];
    const picture = row.querySelector("img");
    if (picture) picture.src = `thumbnail/${level}/${col}_${line}`;
  });
}
