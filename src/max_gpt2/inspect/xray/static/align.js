/** Alignment of the tokens of two columns. */

/**
 * Return the longest common subsequence of two lists of tokens: pairs of indices, both rising.
 *
 * Equal starts and ends are paired first, so that two texts that differ in a few words take little time.
 *
 * @param {{id: number, text: string}[]} left
 * @param {{id: number, text: string}[]} right tokens are equal if their ids and their texts are
 * @returns {[number, number][]}
 */
export function align(left, right) {
  const same = (one, other) => left[one].id === right[other].id && left[one].text === right[other].text;
  let start = 0;
  while (start < left.length && start < right.length && same(start, start)) start += 1;
  let end = 0;
  const most = Math.min(left.length, right.length) - start;
  while (end < most && same(left.length - 1 - end, right.length - 1 - end)) end += 1;
  const pairs = [];
  for (let index = 0; index < start; index++) pairs.push([index, index]);
  pairs.push(...middle(same, [start, left.length - end], [start, right.length - end]));
  for (let index = end; index > 0; index--) pairs.push([left.length - index, right.length - index]);
  return pairs;
}

/** Return the pairs of two ranges, by dynamic programming. */
function middle(same, [first, last], [otherFirst, otherLast]) {
  const [rows, columns] = [last - first, otherLast - otherFirst];
  const width = columns + 1;
  const lengths = new Uint16Array((rows + 1) * width); // of the common subsequence of what follows
  for (let row = rows - 1; row >= 0; row--) {
    for (let column = columns - 1; column >= 0; column--) {
      const at = row * width + column;
      lengths[at] = same(first + row, otherFirst + column)
        ? lengths[at + width + 1] + 1
        : Math.max(lengths[at + width], lengths[at + 1]);
    }
  }
  const pairs = [];
  for (let row = 0, column = 0; row < rows && column < columns; ) {
    const at = row * width + column;
    if (same(first + row, otherFirst + column)) pairs.push([first + row++, otherFirst + column++]);
    else if (lengths[at + width] >= lengths[at + 1]) row += 1;
    else column += 1;
  }
  return pairs;
}
