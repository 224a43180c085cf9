"""One ingest on Ray, as the process that starts it sees it."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from compsketch_milvus import stages
from compsketch_milvus.cluster.actors import Gate, Keeper, Patience, answer
from compsketch_milvus.cluster.batch import Batch, Outcome, Written, unpack
from compsketch_milvus.cluster.session import Session
from compsketch_milvus.cluster.setup import EncoderFacts, Environment, Opening, OpensEncoder
from compsketch_milvus.cluster.tasks import Decode, Encode, Reader, datasource
from compsketch_milvus.course import Course, Stop
from compsketch_milvus.errors import CompsketchError
from compsketch_milvus.pipeline import Channel, Crew
from compsketch_milvus.records import ImageRecord
from compsketch_milvus.retry import Backoff
from compsketch_milvus.server import lite_path
from compsketch_milvus.shard import Shard
from compsketch_milvus.sources import Source, is_countable, iterate
from compsketch_milvus.sources.access import Access
from compsketch_milvus.tally import IngestProgress, Tally

__all__ = ["Plan", "Run"]

READERS, KEEPERS = 8, 4  # at most: each reader walks the whole source, and each keeper is a connection to Milvus
END = 10.0  # seconds for a process to end
SMALL = 0.25  # of a processor, for what mostly waits: on a machine of few, whole ones would starve the rest
FEW_CPUS = 4
GOES_ON = {"max_restarts": -1, "max_task_retries": -1}  # a lost process costs a restart, and its calls are made again


@dataclass(frozen=True)
class Plan:
    """What is to be done, and by how many.

    Args:
        source: as for `sources.iterate`.
        opening: of the collection.
        opens: opens the encoder in a worker.
        environment: settings.
        access: what the source is allowed.
        backoff: how long to try again while a server is away or busy.
        batch_size: photos a call of the encoder.
        force: index also what the collection holds already.
        encoders: how many encode at a time.
        readers: shards of the source.
    """

    source: Source
    opening: Opening
    opens: OpensEncoder
    environment: Environment
    access: Access
    backoff: Backoff
    batch_size: int
    force: bool
    encoders: int
    readers: int

    def window(self, session: Session) -> int:
        """Photos of one shard that may be on their way: two questions to the collection, and what is in work."""
        busy = self.batch_size * (4 * self.encoders + 2 * session.cpus)
        return 2 * stages.CHUNK + -(-busy // self.readers)


class Run(Course):
    """The driver's threads: one takes encoded batches out of Ray's stream, and one for each keeper has them written."""

    def __init__(
        self,
        plan: Plan,
        session: Session,
        tally: Tally,
        *,
        progress: Callable[[IngestProgress], None] | None,
        stop: Stop | None,
    ) -> None:
        self.plan, self.session = plan, session
        name = f"compsketch-gate-{uuid.uuid4().hex}"
        self.gate = _made(Gate, here=True, name=name).remote(plan.window(session))
        self.patience = Patience(name, plan.backoff)
        self.encoder = _facts(plan)
        # A Milvus Lite file, and what a bulk import writes to, are open in one process, and on this machine.
        self.lite = lite_path(plan.opening.uri) is not None
        alone = self.lite or plan.opening.staging is not None
        maker = _made(Keeper, here=alone, **GOES_ON)
        self.keepers = [
            maker.remote(plan.environment, plan.opening, self.encoder, self.patience)
            for _ in range(1 if alone else min(KEEPERS, session.nodes))
        ]
        self.process: int = answer(self.keepers[0].open.remote())
        self.encoded: Channel[Batch] = Channel(2)
        self.written: Channel[None] = Channel(1, producers=len(self.keepers))
        crew = Crew(self.encoded, self.written)
        super().__init__(crew, tally, progress=progress, stop=stop, counted=is_countable(plan.source))
        self.ended: Counter[int] = Counter()
        self.totals: dict[int, int] = {}
        self.lock = threading.Lock()
        self.waits: Any = None
        self.words = ""

    def start(self) -> None:
        self.crew.start(self.collect, self.encoded, name="ingest-collect")
        for number, keeper in enumerate(self.keepers):
            self.crew.start(partial(self.write, keeper), self.written, name=f"ingest-write-{number}")
        self.crew.start(self.finish, name="ingest-finish")

    def drain(self) -> None:
        self.gate.stop.remote()

    def waiting(self) -> str:
        """As of the last time that the gate was asked: nobody waits for its answer."""
        import ray

        if self.waits is None:
            self.waits = self.gate.waits.remote()
        elif ray.wait([self.waits], timeout=0)[0]:
            self.words, self.waits = answer(self.waits), None
        return self.words

    def named(self) -> Iterator[ImageRecord]:
        return iterate(self.plan.source, replace(self.plan.access, asks=lambda _: False))

    def leave(self) -> None:
        """Let go of what the workers hold, also where they are in the midst of something."""
        import ray

        self.gate.stop.remote()
        for actor in (*self.keepers, self.gate):
            ray.kill(actor)
        if self.lite:
            _await_end(self.process)  # so that the file can be opened again

    def stream(self) -> Any:
        """What Ray Data makes of the source: rows of encoded batches."""
        import ray

        plan, local = self.plan, self.session.local
        context = ray.data.DataContext.get_current().copy()
        context.target_max_block_size = 1  # a row is a block, passed on at once
        context.enable_progress_bars = context.print_on_execution_start = False
        environment, access = plan.environment, plan.access
        read = [
            Reader(
                plan.source,
                Shard(number + 1, plan.readers),
                access,
                environment,
                plan.batch_size,
                plan.window(self.session),
                plan.force,
                self.gate,
                self.keepers[number % len(self.keepers)],
                local,
            )
            for number in range(plan.readers)
        ]
        decode = Decode(self.encoder.image_size, access, environment, self.gate, local)
        made = (plan.opens, self.encoder, environment, self.patience)
        gpus = {"num_gpus": 1} if self.session.gpus else {}
        with ray.data.DataContext.current(context):
            photos = ray.data.read_datasource(datasource(read), override_num_blocks=len(read), num_cpus=SMALL)
            pixels = photos.map_batches(
                decode.__call__,
                batch_size=None,
                batch_format="pyarrow",
                num_cpus=0.5 if self.session.cpus <= FEW_CPUS else 1,
            )
            return pixels.map_batches(
                Encode,
                fn_constructor_args=made,
                batch_size=None,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(size=plan.encoders),
                num_cpus=SMALL,
                **gpus,
            )

    def collect(self) -> None:
        """Take what is encoded out of the stream; what ended on the way there has ended."""
        rows = self.stream().iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
        for row in rows:
            batch = unpack(row)
            if batch is None:
                continue
            if batch.fault is not None:
                raise batch.fault
            self.end(batch.shard, batch.outcomes)
            if batch.total is not None:
                self.totals[batch.shard] = batch.total
            if batch.photos:
                self.encoded.put(batch)
        self.all_read = len(self.totals) == self.plan.readers

    def write(self, keeper: Any) -> None:
        """Have batches written, one at a time."""
        for batch in self.encoded:
            written: Written = answer(keeper.write.remote(batch.photos))
            self.end(batch.shard, written.outcomes)
            self.tally.stored(written.stored)

    def end(self, shard: int, outcomes: list[Outcome]) -> None:
        """Count photos that have ended, and make room for others behind them."""
        for outcome in outcomes:
            self.count_one(outcome)
        with self.lock:
            self.ended[shard] += len(outcomes)
        self.gate.leave.remote(shard, len(outcomes))

    def count_one(self, outcome: Outcome) -> None:
        photo = outcome.photo
        if outcome.status == "refused":
            self.tally.refuse(photo, outcome.reason)
        elif self.tally.take(photo):
            if outcome.status == "indexed":
                self.tally.wrote([photo])
            elif outcome.status == "skipped":
                self.tally.skip(photo)
            elif outcome.status == "failed":
                self.tally.fail(photo, outcome.reason)

    def finish(self) -> None:
        """Once all is written, have it written out, and see that of each shard everything has ended."""
        for _ in self.written:
            pass
        self.tally.stored(answer(self.keepers[0].finish.remote()))
        if (left := self.tally.summary().abandoned) and not self.draining:
            raise CompsketchError(f"{left} photos were staged by a process that was killed")
        missed = sum(self.totals.values()) - sum(self.ended[shard] for shard in self.totals)
        if missed or not (self.all_read or self.draining):
            raise CompsketchError(
                f"{missed} photos were missed or seen twice: the source changed while a reader of it was replaced"
            )


def _made(kind: type, *, here: bool, **options: Any) -> Any:
    """What makes actors of a kind; `here`: on this machine, which they need and with which alone they are lost."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    if here:
        this = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options["scheduling_strategy"] = this
    else:
        options["scheduling_strategy"] = "SPREAD"
    return ray.remote(kind).options(num_cpus=0, **options)


def _await_end(process: int) -> None:
    deadline = time.monotonic() + END
    while time.monotonic() < deadline:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)


def _facts(plan: Plan) -> EncoderFacts:
    """Ask a worker for the encoder's facts, in a process of its own: this machine need not be able to open it."""
    import ray

    return answer(ray.remote(num_cpus=SMALL, max_calls=1)(_open_encoder).remote(plan.opens, plan.environment))


def _open_encoder(opens: OpensEncoder, environment: Environment) -> EncoderFacts:
    environment.enter()
    return EncoderFacts.of(opens())
