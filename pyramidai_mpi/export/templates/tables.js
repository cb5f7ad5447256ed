// What is told of a place of the slide: its tile at each level, as the table in the page has it.
function readTables() {
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return JSON.parse(document.getElementById("tables").textContent).map((table) => {
    const there = bytes(table.there), codes = new Uint16Array(bytes(table.codes).buffer);
    const cells = new Uint16Array(table.cols * table.rows);
    for (let cell = 0, next = 0; cell < cells.length; cell++) {
      if (there[cell >> 3] >> (cell & 7) & 1) cells[cell] = codes[next++];
    }
    return { ...table, there: null, codes: null, cells };
  });
}

// Tiles at a level-0 pixel, that of the level asked for first, else the finest.
function tilesAt(tables, x, y, wanted) {
  const found = [];
  for (const { level, step, side, cols, rows, outcomes, cells } of tables) {
    const col = Math.floor(x / side), row = Math.floor(y / side);
    const code = col < cols && row < rows ? cells[row * cols + col] : 0;
    if (!code) continue;
    const score = code === 1 ? null : ((code >> 2) - 1) / 10000;
    const outcome = outcomes[code === 1 ? 2 : code & 3];
    found.push({ level, step, score, outcome, square: [col * side, row * side, side] });
  }
  const first = found.findIndex((tile) => tile.level === wanted);
  if (first > 0) found.unshift(...found.splice(first, 1));
  return found;
}

// The answer in words, as lines of an element; where the slide ends it is empty.
function tellTiles(element, tiles, x, y, mpp) {
  const line = (text, kind, colour) => {
    const made = document.createElement("p");
    made.className = kind;
    if (colour) made.appendChild(document.createElement("i")).style.background = colour;
    made.append(text);
    return made;
  };
  element.replaceChildren(...tiles.map(({ level, step, score, outcome }, n) => {
    const number = score === null ? "" : `${score.toFixed(4)} `;
    const text = `${number}${outcome}, level ${level}${step > 1 ? `, highest of ${step} × ${step}` : ""}`;
    return line(text, n ? "" : "at", score === null ? "rgb(120 120 120)" : colourOf(score));
  }));
  if (!tiles.length) element.append(line("not looked at", "at"));
  element.append(line(`x ${Math.floor(x)}, y ${Math.floor(y)} px (${(x * mpp / 1000).toFixed(2)}, ${(y * mpp / 1000).toFixed(2)} mm)`, ""));
}

// The colours of the legend's ramp.
function colourOf(score) {
  const text = getComputedStyle(document.querySelector(".ramp")).backgroundImage;
  const colours = text.match(/rgb\([^)]*\)/g).map((colour) => colour.match(/\d+/g).map(Number));
  const at = score * (colours.length - 1), first = Math.min(colours.length - 2, Math.floor(at));
  return `rgb(${colours[first].map((channel, n) => Math.round(channel + (at - first) * (colours[first + 1][n] - channel))).join(" ")})`;
}
