/** Pictures of the tokens. */

const MARGIN = 8;

/**
 * Return the colored tokens as they stand on the page, as a data URL of an SVG picture.
 *
 * @param {HTMLElement} list the element that has the tokens as children
 */
export function svgOfTokens(list) {
  const { left, top, width, height } = list.getBoundingClientRect();
  const { color, fontFamily, fontSize } = getComputedStyle(list);
  const surface = getComputedStyle(list.closest(".panel")).backgroundColor;
  const shapes = [...list.children].flatMap((one) => {
    const { backgroundColor } = getComputedStyle(one);
    const boxes = [...one.getClientRects()].map(
      (box) => `<rect ${place(box, left, top)} width="${box.width}" height="${box.height}" rx="3" fill="${backgroundColor}"/>`,
    );
    return [...boxes, ...runs(one.firstChild).map(({ box, text }) => label(box, text, left, top))];
  });
  const [wide, high] = [Math.ceil(width) + 2 * MARGIN, Math.ceil(height) + 2 * MARGIN];
  const font = escapeXml(`font-family:${fontFamily};font-size:${fontSize}`);
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${wide}" height="${high}" style="${font}" fill="${color}">
<rect width="${wide}" height="${high}" fill="${surface}"/>
${shapes.join("\n")}
</svg>`;
  return `data:image/svg+xml,${encodeURIComponent(svg)}`;
}

/** Return a picture as a data URL of a PNG with two pixels for each of the page. */
export async function pngOf(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [2 * image.width, 2 * image.height];
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/png");
}

/** Return the parts of a text node that stand on one line each: a token may start at the end of a line. */
function runs(node) {
  const found = [];
  const range = document.createRange();
  let start = 0;
  for (const character of node.data) {
    range.setStart(node, start);
    start += character.length;
    range.setEnd(node, start);
    const box = range.getBoundingClientRect();
    const last = found.at(-1);
    if (last && last.box.top === box.top) last.text += character;
    else found.push({ box, text: character });
  }
  return found.filter(({ text }) => text.trim());
}

function label(box, text, left, top) {
  const spaces = text.length - text.trimStart().length;
  const shown = "\u00a0".repeat(spaces) + text.trim();
  const x = box.left - left + MARGIN;
  return `<text x="${x}" y="${box.top - top + MARGIN + 0.78 * box.height}">${escapeXml(shown)}</text>`;
}

function place(box, left, top) {
  return `x="${box.left - left + MARGIN}" y="${box.top - top + MARGIN}"`;
}

function escapeXml(text) {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}
