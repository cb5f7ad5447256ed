"use strict";
// The longest bar of 1, 2 or 5 times a power of ten µm that is no longer than so many pixels.
function scaleBar(umPerPixel, mostPixels) {
  const most = umPerPixel * mostPixels, power = 10 ** Math.floor(Math.log10(most));
  const um = [5, 2, 1].map((step) => step * power).find((length) => length <= most * (1 + 1e-9));
  const label = um >= 1000 ? `${Number((um / 1000).toPrecision(3))} mm` : `${Number(um.toPrecision(3))} µm`;
  return { pixels: um / umPerPixel, label };
}
