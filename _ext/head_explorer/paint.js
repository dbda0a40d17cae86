/* One map of weights as a picture, a pixel for each pair of words. */
"use strict";

{
  let colour; // of the theme, its bytes in the order of a canvas

  function mixColour() {
    const hex = getComputedStyle(document.documentElement).getPropertyValue("--mh-blue");
    const [red, green, blue] = hex.match(/\w\w/g).map((byte) => parseInt(byte, 16));
    colour = (blue << 16) | (green << 8) | red;
  }

  // Clear is 0, solid is 1, as in all maps of the book.
  function paint(canvas, map, n) {
    const picture = new ImageData(n, n);
    const pixels = new Uint32Array(picture.data.buffer);
    map.forEach((share, i) => (pixels[i] = (Math.round(255 * share) << 24) | colour));
    canvas.width = canvas.height = n;
    canvas.getContext("2d").putImageData(picture, 0, 0);
  }

  Object.assign(explorer, { mixColour, paint });
}
