/**
 * A table of the numbers of a picture, made when it is opened.
 */

import { format } from "xray/arrays";

/** Rows shown at most: more would make the page slow. */
const MOST_ROWS = 1000;

/**
 * @typedef {object} Table
 * @property {string[]} columns
 * @property {(string|number|{text: string, action: () => void, pressed?: boolean})[][]} rows
 *   a number is written with six digits; an object is a button
 * @property {number} [total] the number of rows that there are, if not all are in `rows`
 */

/** A closed `<details>` with a table. */
export class DataTable {
  /** @param {Element} container */
  constructor(container) {
    this.element = document.createElement("details");
    this.element.className = "figure-table";
    this.element.innerHTML = `<summary>Table</summary><div class="figure-scroll" tabindex="0"></div>`;
    this.element.addEventListener("toggle", () => this.#fill());
    this.place = this.element.querySelector("div");
    container.append(this.element);
    this.table = null;
  }

  /** Show another table. @param {Table|(() => Table)|undefined} table a function is called when the rows are needed */
  set(table) {
    this.table = table ?? null;
    this.#fill();
  }

  #fill() {
    const focused = [...this.place.querySelectorAll("button")].indexOf(document.activeElement);
    this.place.replaceChildren();
    if (!this.element.open || !this.table) return;
    const { columns, rows, total = rows.length } = typeof this.table === "function" ? this.table() : this.table;
    const table = document.createElement("table");
    const head = table.createTHead().insertRow();
    for (const column of columns) {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.textContent = column;
      head.append(cell);
    }
    const body = table.createTBody();
    for (const row of rows.slice(0, MOST_ROWS)) fillRow(body.insertRow(), row);
    const shown = Math.min(rows.length, MOST_ROWS);
    if (shown < total) {
      const number = (value) => value.toLocaleString("en-US");
      table.createCaption().textContent =
        `${number(shown)} of ${number(total)} rows are shown. "Data" saves all of them.`;
    }
    this.place.append(table);
    if (focused >= 0) this.place.querySelectorAll("button")[focused]?.focus();
  }
}

function fillRow(element, row) {
  for (const value of row) {
    const cell = element.insertCell();
    if (typeof value === "object" && value !== null) {
      cell.append(buttonOf(value));
    } else if (typeof value === "number") {
      cell.className = "number";
      cell.textContent = format(value);
    } else {
      cell.textContent = value;
    }
  }
}

function buttonOf({ text, action, pressed }) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = text;
  if (pressed !== undefined) button.setAttribute("aria-pressed", String(pressed));
  button.addEventListener("click", action);
  return button;
}
