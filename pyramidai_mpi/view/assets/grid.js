// Scores, decisions and tissue, drawn from the tables of the result for every picture: exact at any zoom, and at once.
// A *place* says where the slide lies on the screen: {x, y} of its corner and `scale`, screen pixels a level-0 pixel.

const NOT_ANALYSED = 255, STOP = 0, ZOOM = 1, UNREADABLE = 2;
const LEAST_BORDERED = 12; // pixels of a tile on the screen from which its border and pattern are drawn
const MOST_CELLS = 150000; // looked at one by one for a picture
const MASK_BAND = 256; // rows of the mask that are made into a picture at a time
const TISSUE_STEP = 3; // least pixels of a step of the tissue's outline

function canvasOf(width, height) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  return canvas;
}

function channels(colour) {
  return [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16));
}

/** Diagonal stripes, as a picture to be repeated. */
function stripes(dark, light, step = 12, share = 0.35) {
  const canvas = canvasOf(step, step), pen = canvas.getContext("2d");
  if (light) { pen.fillStyle = light; pen.fillRect(0, 0, step, step); }
  pen.strokeStyle = dark;
  pen.lineWidth = step * share;
  for (const shift of [-step, 0, step]) {
    pen.beginPath();
    pen.moveTo(shift - 2, step + 2);
    pen.lineTo(shift + step + 2, -2);
    pen.stroke();
  }
  return canvas;
}

export class TileGrid {
  constructor(result, scores, bytes) {
    const { cols, rows, spans } = result.grid;
    Object.assign(this, { cols, rows, scores });
    this.sides = result.levels.map(({ side }) => side);
    this.times = spans;
    this.level = bytes.subarray(0, cols * rows);
    this.decision = bytes.subarray(cols * rows);
    this.lined = stripes("rgb(0 0 0 / 26%)", null, 16, 0.22);
    this.unreadable = stripes(...result.colours.unreadable);
    this.sheet = canvasOf(1, 1);
    this.decisions = canvasOf(cols, rows);
    const picture = new ImageData(cols, rows);
    const [positive, zoomed] = [channels(result.colours.positive), channels(result.colours.zoomed)];
    const grey = channels(result.colours.unreadable[1]);
    this.isPositive = result.levels.map(({ stride }, level) => level === 0 || stride !== null);
    const colours = result.levels.map(({ stopped }, level) => {
      const each = [];
      [each[STOP], each[ZOOM], each[UNREADABLE]] = [channels(stopped), this.isPositive[level] ? positive : zoomed, grey];
      return each;
    });
    for (let i = 0; i < cols * rows; i++) {
      const level = this.level[i], decision = this.decision[i];
      if (decision === NOT_ANALYSED) continue;
      picture.data.set(colours[level][decision], 4 * i);
      picture.data[4 * i + 3] = 255;
    }
    this.decisions.getContext("2d").putImageData(picture, 0, 0);
  }

  /** Columns and rows in sight, the last excluded. */
  seen({ x, y, scale, width, height }) {
    const side = this.sides[0] * scale;
    const within = (value, most) => Math.min(most, Math.max(0, value));
    return [within(Math.floor(-x / side), this.cols), within(Math.ceil((width - x) / side), this.cols),
      within(Math.floor(-y / side), this.rows), within(Math.ceil((height - y) / side), this.rows)];
  }

  drawPicture(pen, place, picture, alpha) {
    const [left, right, top, bottom] = this.seen(place);
    if (left >= right || top >= bottom) return;
    const side = this.sides[0] * place.scale;
    pen.globalAlpha = alpha;
    pen.imageSmoothingEnabled = side < 1;
    pen.drawImage(picture, left, top, right - left, bottom - top,
      place.x + left * side, place.y + top * side, (right - left) * side, (bottom - top) * side);
    pen.globalAlpha = 1;
  }

  /** Scores where there is tissue, as in every other picture of a result. */
  drawScores(pen, place, alpha, tissue) {
    const { width, height } = pen.canvas;
    if (this.sheet.width !== width || this.sheet.height !== height) [this.sheet.width, this.sheet.height] = [width, height];
    const sheet = this.sheet.getContext("2d");
    sheet.setTransform(1, 0, 0, 1, 0, 0);
    sheet.clearRect(0, 0, width, height);
    sheet.setTransform(pen.getTransform());
    this.drawPicture(sheet, place, this.scores, 1);
    sheet.globalCompositeOperation = "destination-in";
    tissue.drawMask(sheet, place);
    sheet.globalCompositeOperation = "source-over";
    pen.save();
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.globalAlpha = alpha;
    pen.drawImage(this.sheet, 0, 0);
    pen.restore();
  }

  drawDecisions(pen, place, alpha) {
    this.drawPicture(pen, place, this.decisions, alpha);
    const [left, right, top, bottom] = this.seen(place);
    if ((right - left) * (bottom - top) > MOST_CELLS) return;
    const side = this.sides[0] * place.scale;
    const wide = this.sides.map((one) => one * place.scale >= LEAST_BORDERED);
    const positive = new Path2D(), unreadable = new Path2D(), borders = new Path2D();
    const owner = (i, col, row) => {
      const level = this.level[i];
      return level === NOT_ANALYSED ? -1 : (level * 2 ** 40 + Math.floor(row / this.times[level]) * 2 ** 20 + Math.floor(col / this.times[level]));
    };
    for (let row = top; row < bottom; row++) {
      for (let col = left; col < right; col++) {
        const i = row * this.cols + col, level = this.level[i], decision = this.decision[i];
        const x = place.x + col * side, y = place.y + row * side;
        if (level === NOT_ANALYSED || !wide[level]) continue;
        if (decision === UNREADABLE) unreadable.rect(x, y, side, side);
        else if (decision === ZOOM && this.isPositive[level]) positive.rect(x, y, side, side);
        const own = owner(i, col, row);
        if (col === 0 || owner(i - 1, col - 1, row) !== own) { borders.moveTo(x, y); borders.lineTo(x, y + side); }
        if (row === 0 || owner(i - this.cols, col, row - 1) !== own) { borders.moveTo(x, y); borders.lineTo(x + side, y); }
      }
    }
    pen.globalAlpha = alpha;
    for (const [path, picture] of [[positive, this.lined], [unreadable, this.unreadable]]) {
      const pattern = pen.createPattern(picture, "repeat");
      pattern.setTransform(new DOMMatrix().translateSelf(place.x % picture.width, place.y % picture.height));
      pen.fillStyle = pattern;
      pen.fill(path);
    }
    pen.globalAlpha = Math.min(1, alpha + 0.2);
    pen.strokeStyle = "#fff";
    pen.lineWidth = 1;
    pen.stroke(borders);
    pen.globalAlpha = 1;
  }
}

export class Tissue {
  constructor({ cols, rows, downsample }, bytes) {
    Object.assign(this, { cols, rows, downsample, bytes });
    this.mask = canvasOf(cols, rows);
    const pen = this.mask.getContext("2d");
    const band = new ImageData(cols, Math.min(rows, MASK_BAND));
    for (let top = 0; top < rows; top += MASK_BAND) {
      band.data.fill(0);
      for (let row = top; row < Math.min(rows, top + MASK_BAND); row++) {
        for (let col = 0; col < cols; col++) if (this.is(col, row)) band.data[4 * ((row - top) * cols + col) + 3] = 255;
      }
      pen.putImageData(band, 0, top);
    }
  }

  /** The tissue, opaque, and nothing elsewhere. */
  drawMask(pen, { x, y, scale }) {
    const side = this.downsample * scale;
    pen.imageSmoothingEnabled = side < 1;
    pen.drawImage(this.mask, x, y, this.cols * side, this.rows * side);
  }

  is(col, row) {
    const at = Math.min(row, this.rows - 1) * this.cols + Math.min(col, this.cols - 1);
    return (this.bytes[at >> 3] >> (7 - (at & 7))) & 1;
  }

  /** The outline at a step that can be seen, where it changes from pixel to pixel of the mask, or of every 2nd, 4th, ... */
  outline({ x, y, scale, width, height }) {
    let step = 1;
    while (step * this.downsample * scale < TISSUE_STEP) step *= 2;
    const side = step * this.downsample * scale, middle = step >> 1;
    const left = Math.max(0, Math.floor(-x / side)), right = Math.min(Math.ceil(this.cols / step), Math.ceil((width - x) / side));
    const top = Math.max(0, Math.floor(-y / side)), bottom = Math.min(Math.ceil(this.rows / step), Math.ceil((height - y) / side));
    const path = new Path2D();
    for (let row = top; row < bottom; row++) {
      for (let col = left; col < right; col++) {
        const own = this.is(col * step + middle, row * step + middle);
        const x0 = x + col * side, y0 = y + row * side;
        if (col > 0 && this.is((col - 1) * step + middle, row * step + middle) !== own) { path.moveTo(x0, y0); path.lineTo(x0, y0 + side); }
        if (row > 0 && this.is(col * step + middle, (row - 1) * step + middle) !== own) { path.moveTo(x0, y0); path.lineTo(x0 + side, y0); }
      }
    }
    return path;
  }

  draw(pen, place, colour) {
    const path = this.outline(place);
    pen.lineCap = "square";
    for (const [style, wide] of [["rgb(255 255 255 / 75%)", 3.5], [colour, 2]]) {
      pen.strokeStyle = style;
      pen.lineWidth = wide;
      pen.stroke(path);
    }
    pen.lineCap = "butt";
  }
}
