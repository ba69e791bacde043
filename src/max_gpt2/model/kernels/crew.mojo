"""Threads that stay together over the parts of a computation.

Going back to the scheduler between two parts costs as much as a small layer takes. A crew does not: each part is cut
into items, a thread takes the next one that nobody has, and the last part is over for all when it is over for each. A
thread waits only for items that a running thread has taken, so that a crew of one does the whole work by itself.
"""

from max.algorithm import sync_parallelize
from max.runtime.asyncrt import parallelism_level
from std.atomic import Atomic, Ordering
from std.ffi import external_call
from std.memory.alloc import unsafe_alloc
from std.sys.info import CompilationTarget
from std.sys.intrinsics import llvm_intrinsic

#: So many looks at a counter take longer than the others need, unless the system has given their core to somebody.
comptime PATIENCE = 20000
#: Two counters of a part lie so far apart that two cores do not fight for the same cache line.
comptime LINE = 16


@fieldwise_init
struct Crew(TrivialRegisterPassable):
    """How many threads there are, and for each part how many of its items are taken and how many are done."""

    var size: Int
    var counters: Pointer[mut=True, Scalar[DType.int64], MutUntrackedOrigin]

    @always_inline
    def part[Work: def(Int) -> None](self, number: Int, items: Int, work: Work):
        """Do the items of a part, each by one thread, and return when all of them are done."""
        var taken = self.counters.unsafe_offset(2 * number * LINE)
        var done = taken.unsafe_offset(LINE)
        while True:
            var item = Int(Atomic.fetch_add[ordering=Ordering.RELAXED](taken, 1))
            if item >= items:
                break
            work(item)
            _ = Atomic.fetch_add[ordering=Ordering.RELEASE](done, 1)
        var looks = 0
        while Int(Atomic.load[ordering=Ordering.ACQUIRE](done)) < items:
            looks += 1
            if looks < PATIENCE:
                _pause()
            else:
                _ = external_call["sched_yield", Int32]()


@always_inline
def work_together[parts: Int, Work: def(Crew) -> None](work: Work):
    """Let every thread there is go through the parts [0, parts)."""
    var counters = unsafe_alloc[Scalar[DType.int64]](2 * parts * LINE)
    for i in range(2 * parts * LINE):
        counters.unsafe_store(i, 0)
    var crew = Crew(parallelism_level(None), counters)

    def thread(index: Int) {imm work, imm crew}:
        work(crew)

    sync_parallelize(thread, crew.size)
    counters.unsafe_free()


@always_inline
def _pause():
    comptime if CompilationTarget.is_x86():
        llvm_intrinsic["llvm.x86.sse2.pause", NoneType, has_side_effect=True]()
