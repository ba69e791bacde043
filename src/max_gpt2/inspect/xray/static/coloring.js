import { format } from "xray/arrays";
import { count, element, signed } from "xray/format";

/** The ways to color tokens, with their titles. */
export const MODES = {
  surprisal: "surprisal",
  rank: "rank",
  change: "change by ablation",
  difference: "difference of columns",
};

/** The surprisal in bits that has the full color. */
const FULL = 16;
/** Upper ends of the classes of ranks: GLTR, Gehrmann et al. 2019. */
const CLASSES = [10, 100, 1000, Infinity];
const CLASS_TITLES = ["top 10", "top 100", "top 1000", "others"];

/**
 * Return the colors of a column's tokens in a mode, or null where the mode has nothing to show.
 *
 * `of(index)` returns `{name, level, label}`: the name of the color in the style sheet, its strength in percent, and
 * the number as text. `kinds` are the entries of the legend.
 */
export function coloring(mode, column) {
  const { view, differences } = column;
  if (mode === "surprisal") return bySurprisal(view.surprisal.data);
  if (mode === "rank") return byRank(view.rank.data);
  if (mode === "change" && view.base_surprisal) {
    const change = view.surprisal.data.map((value, index) => value - view.base_surprisal.data[index]);
    return byDifference(change, "change of surprisal");
  }
  if (mode === "difference" && differences?.length === view.tokens.length) {
    return byDifference(differences, "difference of surprisal");
  }
  return null;
}

function bySurprisal(values) {
  return {
    of(index) {
      const value = values[index];
      if (Number.isNaN(value)) return { name: "none", level: 0, label: "not predicted" };
      const level = (100 * Math.min(value, FULL)) / FULL;
      return { name: "surprise", level, label: `surprisal ${format(value)} bits` };
    },
    kinds: [0, 4, 8, 12, 16].map((bits) => ({
      name: "surprise",
      level: (100 * bits) / FULL,
      title: bits === FULL ? `${bits} bits or more` : `${bits}`,
    })),
  };
}

function byRank(values) {
  return {
    of(index) {
      const rank = values[index];
      if (rank === 0) return { name: "none", level: 0, label: "not predicted" };
      const found = CLASSES.findIndex((end) => rank <= end);
      return { name: `rank-${found + 1}`, level: 100, label: `rank ${count(rank)}, ${CLASS_TITLES[found]}` };
    },
    kinds: CLASS_TITLES.map((title, index) => ({ name: `rank-${index + 1}`, level: 100, title })),
  };
}

/** Color by a signed difference in bits; the largest has the full color, but at least 1 bit. */
function byDifference(values, what) {
  const largest = values.reduce((most, value) => (Math.abs(value) > most ? Math.abs(value) : most), 1);
  const nameOf = (value) => (value > 0 ? "more" : "less");
  return {
    of(index) {
      const value = values[index];
      if (Number.isNaN(value)) return { name: "none", level: 0, label: `no ${what}` };
      return { name: nameOf(value), level: (100 * Math.abs(value)) / largest, label: `${what} ${format(value)} bits` };
    },
    kinds: [-largest, -largest / 2, 0, largest / 2, largest].map((value) => ({
      name: nameOf(value),
      level: (100 * Math.abs(value)) / largest,
      title: value === 0 ? "0" : `${signed(value)}${value === largest ? " bits, more surprising" : ""}`,
    })),
  };
}

/** Show the legend of colors in an element. */
export function addLegend(parent, { kinds }) {
  const entries = kinds.map(({ name, level, title }) => {
    const swatch = element("span", { class: "swatch", "data-color": name });
    swatch.style.setProperty("--level", `${level}%`);
    return element("li", {}, swatch, ` ${title}`);
  });
  parent.replaceChildren(element("ul", { "aria-label": "Legend" }, ...entries));
}
