"""A team of threads that runs the phases of an operation, and the partition of work into items.

Returning to the scheduler between two phases costs as much as a small layer takes. A team stays together instead: the
work of a phase is cut into items, each thread takes the next free item, and a phase ends when all its items are done. A
thread waits only for items that a running thread has taken, so a team of one thread completes the work by itself.
"""

from max.algorithm import sync_parallelize
from max.runtime.asyncrt import parallelism_level
from std.atomic import Atomic, Ordering
from std.ffi import external_call
from std.memory import unsafe_memset_zero
from std.memory.alloc import unsafe_alloc
from std.sys.info import CompilationTarget
from std.sys.intrinsics import llvm_intrinsic

from .tuning import SPIN_LIMIT
from .types import I64, UntrackedInts

#: Int64 elements between two counters: two cache lines, since processors fetch lines in pairs and two cores must not
#: contend for one.
comptime COUNTER_STRIDE = 16


@fieldwise_init
struct ThreadTeam(TrivialRegisterPassable):
    """The threads of an operation, as seen by one of them.

    Every thread has its own copy and runs the same phases in the same order, so that their phase numbers agree. A
    branch around a phase must therefore depend only on values that all threads share.
    """

    var size: Int
    var counters: UntrackedInts  # [max_phases, 2, COUNTER_STRIDE]: items taken and items done
    var max_phases: Int
    var phases: Int  # that this thread has entered

    @always_inline
    def phase[Work: def(Int) -> None](mut self, items: Int, work: Work):
        """Run `work(item)` once for each item in [0, items), and return when all threads have finished their items."""
        debug_assert[assert_mode="safe"](self.phases < self.max_phases, "an operation has more phases than it said")
        var taken = self.counters.unsafe_offset(2 * self.phases * COUNTER_STRIDE)
        var done = taken.unsafe_offset(COUNTER_STRIDE)
        self.phases += 1
        while True:
            var item = Int(Atomic.fetch_add[ordering=Ordering.RELAXED](taken, 1))
            if item >= items:
                break
            work(item)
            _ = Atomic.fetch_add[ordering=Ordering.RELEASE](done, 1)
        var polls = 0
        while Int(Atomic.load[ordering=Ordering.ACQUIRE](done)) < items:
            polls += 1
            if polls < SPIN_LIMIT:
                _pause()
            else:
                _ = external_call["sched_yield", Int32]()


@always_inline
def run_team[Work: def(mut ThreadTeam) -> None](max_phases: Int, work: Work):
    """Run `work`, of at most `max_phases` phases, on all threads of MAX's pool, each with its own view of one team."""
    var size = 2 * max_phases * COUNTER_STRIDE
    var counters = unsafe_alloc[Scalar[I64]](size, alignment=64)
    unsafe_memset_zero(counters, size)
    var team = ThreadTeam(parallelism_level(None), counters, max_phases, 0)

    def thread(index: Int) {imm work, imm team}:
        var mine = team
        work(mine)

    sync_parallelize(thread, team.size)
    counters.unsafe_free()


@always_inline
def _pause():
    comptime if CompilationTarget.is_x86():
        llvm_intrinsic["llvm.x86.sse2.pause", NoneType, has_side_effect=True]()


@fieldwise_init
struct WorkPartition(TrivialRegisterPassable):
    """A range [0, length) cut into items of decreasing length, so that threads of unequal speed finish together.

    This is "factoring", Hummel, Schonberg and Flynn 1992: in each round, all threads together take half of the rest.
    """

    var length: Int
    var threads: Int

    def start(self, item: Int) -> Int:
        """Return the start of an item, which is the end of the previous one; `length` if there is no such item."""
        var items_before = 0
        var position = 0
        while position < self.length:
            var size = max(1, (self.length - position) // (2 * self.threads))
            if item < items_before + self.threads:
                return min(position + (item - items_before) * size, self.length)
            items_before += self.threads
            position += self.threads * size
        return self.length

    def count(self) -> Int:
        """Return the number of items."""
        var items = 0
        while self.start(items) < self.length:
            items += 1
        return items
