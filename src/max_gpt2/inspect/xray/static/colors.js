/**
 * Colors of the figures, for light and for dark pages.
 */

/** Colors from nothing to all: the first one blends into the page. */
const SEQUENTIAL = {
  light: ["#ffffff", "#d6e4f5", "#93bfe6", "#4a90d0", "#1f5fa8", "#0b2e63"],
  dark: ["#14181f", "#17324f", "#1f5688", "#3f86c4", "#86bdea", "#e8f4ff"],
};

/** Colors from negative to positive: the one in the middle blends into the page. */
const DIVERGING = {
  light: ["#8c2d04", "#d95f0e", "#fdbe85", "#ffffff", "#93bfe6", "#2f78bd", "#0b3c78"],
  dark: ["#ffc08a", "#e6781e", "#7a3a0c", "#14181f", "#1b4a78", "#4393d8", "#b5dbff"],
};

/** The event of `document` after a change between light and dark. */
export const THEME_EVENT = "xray-theme";

/**
 * Return the colors of the page around an element.
 *
 * @param {Element} element
 * @returns {{ink: string, surface: string, line: string, quiet: string, mark: string, dark: boolean, sequential: string[], diverging: string[]}}
 */
export function themeOf(element) {
  const ink = getComputedStyle(element).color;
  const surface = surfaceOf(element);
  const dark = luminance(surface) < 0.4;
  const mode = dark ? "dark" : "light";
  const line = dark ? "#4a5260" : "#c4cad3";
  const quiet = dark ? "#9aa3af" : "#707a87";
  const mark = dark ? "#ffb000" : "#d1480a";
  return { ink, surface, line, quiet, mark, dark, sequential: SEQUENTIAL[mode], diverging: DIVERGING[mode] };
}

function surfaceOf(element) {
  for (let one = element; one; one = one.parentElement) {
    const color = getComputedStyle(one).backgroundColor;
    if (channels(color)[3] !== 0) return color;
  }
  return matchMedia("(prefers-color-scheme: dark)").matches ? "rgb(20, 24, 31)" : "rgb(255, 255, 255)";
}

/** Return red, green and blue in 0 .. 255, and alpha in 0 .. 1. */
function channels(color) {
  if (color.startsWith("#")) {
    return [...[1, 3, 5].map((start) => parseInt(color.slice(start, start + 2), 16)), 1];
  }
  const scale = color.startsWith("color(") ? 255 : 1;
  const [red, green, blue, alpha = 1] = (color.match(/[\d.]+(?:e-?\d+)?/g) ?? [0, 0, 0]).map(Number);
  return [red * scale, green * scale, blue * scale, alpha];
}

function luminance(color) {
  const [red, green, blue] = channels(color);
  return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255;
}

/** Return the color at a fraction of the way through a list of colors. */
function mix(colors, fraction) {
  const place = Math.min(Math.max(fraction, 0), 1) * (colors.length - 1);
  const first = Math.min(Math.floor(place), colors.length - 2);
  const [from, to] = [channels(colors[first]), channels(colors[first + 1])];
  return [0, 1, 2].map((one) => Math.round(from[one] + (to[one] - from[one]) * (place - first)));
}

/**
 * Return a color scale of Plotly.
 *
 * @param {string[]} colors
 * @param {(value: number) => number} curve the place among the colors of a value in 0 .. 1
 */
export function colorScale(colors, curve = (value) => value) {
  const stops = Array.from({ length: 33 }, (_, index) => index / 32);
  // More stops near 0, where a curve such as the square root is steep.
  const places = curve(0.25) === 0.25 ? stops : stops.map((stop) => stop * stop);
  return places.map((place) => [place, `rgb(${mix(colors, curve(place)).join(",")})`]);
}

/** Return the colors of the bytes 0 .. 255 as 256 x RGBA. */
export function colorTable(colors, curve = (value) => value) {
  const table = new Uint8ClampedArray(4 * 256);
  for (let byte = 0; byte < 256; byte++) table.set([...mix(colors, curve(byte / 255)), 255], 4 * byte);
  return table;
}

let watched = false;

/** Send THEME_EVENT to `document` after each change of the color scheme or of the attributes of the page. */
export function watchTheme() {
  if (watched) return;
  watched = true;
  const send = () => requestAnimationFrame(() => document.dispatchEvent(new Event(THEME_EVENT)));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", send);
  const observer = new MutationObserver(send);
  const options = { attributes: true, attributeFilter: ["class", "data-theme", "style"] };
  for (const element of [document.documentElement, document.body]) observer.observe(element, options);
}
