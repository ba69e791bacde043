import { align } from "xray/align";
import { format, tokenLabel } from "xray/arrays";
import { count, element, mean } from "xray/format";

/** Rows of the list of differences. */
const MOST = 10;

/**
 * Compare the surprisal of two columns where their tokens agree, and select the same token in both.
 *
 * Sets `differences` of both columns: the surprisal there minus that in the other.
 */
export function mountCompare(parent, left, right, page) {
  return new Comparison(parent, left, right, page);
}

class Comparison {
  #pairs = [];
  #active = true;

  constructor(parent, left, right, page) {
    Object.assign(this, { left, right, page });
    this.numbers = element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Means" });
    this.list = element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Largest differences" });
    parent.append(element("h2", {}, "Comparison"), this.numbers, this.list);
    for (const column of [left, right]) column.addEventListener("view", () => this.#update());
    left.addEventListener("select", () => this.#follow(left, right, 0));
    right.addEventListener("select", () => this.#follow(right, left, 1));
    this.#update();
  }

  /** Start or stop to compare; the columns have no differences when stopped. */
  activate(active) {
    this.#active = active;
    if (active) this.#update();
    else for (const column of [this.left, this.right]) column.compare(null);
  }

  #update() {
    const [left, right] = [this.left.view, this.right.view];
    if (!this.#active || !left || !right) return;
    this.#pairs = align(left.tokens, right.tokens);
    const [here, there] = [left.surprisal.data, right.surprisal.data];
    const ours = new Float32Array(left.tokens.length).fill(NaN);
    const theirs = new Float32Array(right.tokens.length).fill(NaN);
    for (const [one, other] of this.#pairs) {
      ours[one] = here[one] - there[other];
      theirs[other] = there[other] - here[one];
    }
    this.left.compare(ours);
    this.right.compare(theirs);
    this.numbers.replaceChildren(this.#means(here, there));
    this.list.replaceChildren(this.#largest(ours));
  }

  #means(here, there) {
    // The first token of a text is not predicted; its pair is no comparison.
    const both = this.#pairs.filter(([one, other]) => !Number.isNaN(here[one] - there[other]));
    const rows = [
      ["Mean surprisal, bits per token", mean(here), mean(there)],
      ["where both have the token", mean(both.map(([one]) => here[one])), mean(both.map(([, other]) => there[other]))],
    ].map(([title, one, other]) => [title, format(one), format(other), format(one - other)]);
    const tokens = ["Tokens", count(here.length), count(there.length), `${count(this.#pairs.length)} agree`];
    return table(["", "A", "B", "A − B"], [tokens, ...rows]);
  }

  #largest(differences) {
    const rows = this.#pairs
      .filter(([one]) => !Number.isNaN(differences[one]))
      .sort(([one], [other]) => Math.abs(differences[other]) - Math.abs(differences[one]))
      .slice(0, MOST)
      .map(([one, other]) => {
        const text = tokenLabel(this.left.view.tokens[one].text);
        const select = () => this.left.select(one);
        const button = element("button", { type: "button", onclick: select }, element("code", {}, text));
        const [here, there] = [this.left.view.surprisal.data[one], this.right.view.surprisal.data[other]];
        return [button, one, other, format(here), format(there), format(differences[one])];
      });
    if (!rows.length) return element("p", {}, "No predicted token is in both texts.");
    const details = element("details", {}, element("summary", {}, "Largest differences of surprisal"));
    details.append(table(["token", "position A", "position B", "A, bits", "B, bits", "A − B"], rows));
    return details;
  }

  /** Select the counterpart of the token that was selected in one column. */
  #follow(column, other, side) {
    if (!this.#active || column.view?.tokens.length !== column.ids.length) return;
    const pair = this.#pairs.find((one) => one[side] === column.position);
    if (pair) other.select(pair[1 - side]);
  }
}

function table(columns, rows) {
  const made = element("table", {});
  const head = made.createTHead().insertRow();
  for (const title of columns) head.append(element("th", { scope: "col" }, title));
  const body = made.createTBody();
  for (const [first, ...values] of rows) {
    const row = body.insertRow();
    row.append(element("th", { scope: "row" }, first));
    for (const value of values) row.append(element("td", {}, String(value)));
  }
  return made;
}
