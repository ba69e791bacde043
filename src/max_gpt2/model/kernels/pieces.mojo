"""Something long, cut into pieces that become shorter, so that threads which are not equally fast end at the same time.

That is "factoring", Hummel, Schonberg and Flynn 1992: in each round all threads together take half of what is left.
"""


@fieldwise_init
struct Pieces(TrivialRegisterPassable):
    """How much there is, and for how many threads."""

    var length: Int
    var threads: Int

    def start(self, number: Int) -> Int:
        """Where a piece begins, and the one before it ends; where all of it ends when there is no such piece."""
        var before = 0
        var at = 0
        while at < self.length:
            var size = max(1, (self.length - at) // (2 * self.threads))
            if number < before + self.threads:
                return min(at + (number - before) * size, self.length)
            before += self.threads
            at += self.threads * size
        return self.length

    def count(self) -> Int:
        """How many pieces there are."""
        var number = 0
        while self.start(number) < self.length:
            number += 1
        return number
