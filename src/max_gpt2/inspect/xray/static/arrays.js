/**
 * Arrays of the server's answers, and how their numbers and tokens are written.
 */

const TYPES = { float32: Float32Array, int32: Int32Array, uint8: Uint8Array };

/** A typed array with a shape, in C order. */
export class NDArray {
  /**
   * @param {number[]} shape
   * @param {Float32Array|Int32Array|Uint8Array} data
   */
  constructor(shape, data) {
    const size = shape.reduce((product, one) => product * one, 1);
    if (size !== data.length) {
      throw new Error(`An array of the shape [${shape.join(", ")}] has ${size} values, not ${data.length}.`);
    }
    this.shape = shape;
    this.data = data;
  }

  /** Return the index of the first value below these indices. */
  offset(indices) {
    return this.shape.reduce((sum, size, axis) => sum * size + (indices[axis] ?? 0), 0);
  }

  /** Return one value: an index for each axis. */
  at(...indices) {
    return this.data[this.offset(indices)];
  }

  /** Return the values below these indices, fewer than there are axes, as a typed array that shares the memory. */
  row(...indices) {
    const size = this.shape.slice(indices.length).reduce((product, one) => product * one, 1);
    const start = this.offset(indices);
    return this.data.subarray(start, start + size);
  }

  /** Return the values as nested arrays, with null for NaN and infinities, which JSON lacks. */
  toJSON() {
    const nest = (prefix) => {
      if (prefix.length === this.shape.length) {
        const value = this.at(...prefix);
        return Number.isFinite(value) ? value : null;
      }
      return Array.from({ length: this.shape[prefix.length] }, (_, index) => nest([...prefix, index]));
    };
    return nest([]);
  }
}

/**
 * Return an answer with an NDArray in place of each `{shape, dtype, data}`, at any depth.
 *
 * @template T
 * @param {T} answer
 * @returns {T}
 */
export function decode(answer) {
  if (Array.isArray(answer)) return answer.map(decode);
  if (answer === null || typeof answer !== "object") return answer;
  if ("shape" in answer && "dtype" in answer && "data" in answer) return decodeArray(answer);
  return Object.fromEntries(Object.entries(answer).map(([name, value]) => [name, decode(value)]));
}

function decodeArray({ shape, dtype, data }) {
  const type = TYPES[dtype];
  if (!type) throw new Error(`The answer has an array of the unknown type "${dtype}".`);
  const bytes = Uint8Array.fromBase64 ? Uint8Array.fromBase64(data) : bytesOf(atob(data));
  return new NDArray(shape, new type(bytes.buffer, 0, bytes.length / type.BYTES_PER_ELEMENT));
}

function bytesOf(text) {
  const bytes = new Uint8Array(text.length);
  for (let index = 0; index < text.length; index++) bytes[index] = text.charCodeAt(index);
  return bytes;
}

/** Return a number with six significant digits, or a dash for NaN. */
export function format(value) {
  if (Number.isNaN(value) || value === null || value === undefined) return "–";
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(6)));
}

/** Return a probability in percent, short enough for a cell. */
export function percent(value) {
  const scaled = 100 * value;
  return `${scaled >= 10 ? scaled.toFixed(0) : scaled.toPrecision(2)}%`;
}

/** Characters that have no picture, or change the order of others; some of them are not allowed in an SVG file. */
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Cn}\p{Cs}\p{Zl}\p{Zp}]/gu;

/**
 * Return the text of a token with its white space made visible: ␣ for a space at either end, ⏎ for a newline, ⇥ for a
 * tab, and the number of any other character that cannot be seen.
 */
export function tokenLabel(text) {
  return text
    .replace(/^ +| +$/g, (spaces) => "␣".repeat(spaces.length))
    .replace(/\n/g, "⏎")
    .replace(/\t/g, "⇥")
    .replace(INVISIBLE, (one) => `⟨U+${one.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
}
