/** Short numbers, means, and elements from data; `xray/arrays` writes exact numbers and tokens. */

/** Return a number with two decimals; "–" for NaN. The exact value belongs beside it. */
export function short(value) {
  return Number.isNaN(value) ? "–" : value.toFixed(2);
}

/** Return a number with its sign and two decimals. */
export function signed(value) {
  return value > 0 ? `+${short(value)}` : short(value);
}

/** Return a count with separators, such as 1,024. */
export function count(value) {
  return value.toLocaleString("en-US");
}

/** Return the mean of the numbers that are not NaN; NaN if there are none. */
export function mean(values) {
  let sum = 0;
  let number = 0;
  for (const value of values) {
    if (Number.isNaN(value)) continue;
    sum += value;
    number += 1;
  }
  return number ? sum / number : NaN;
}

/** Create an element with attributes, properties that start with "on", and children (nodes or strings). */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

/** Return a probability as a percentage with three significant digits, short enough for a bar. */
export function percent(value) {
  return `${Number((100 * value).toPrecision(3))}%`;
}
