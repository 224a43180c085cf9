"""Photos by Milvus' bulk import: rows as parquet files where the server can read them, then jobs of the server's own.

    staging    a folder or a bucket, where files wait
    parts      checked rows as parquet files of bounded size
    jobs       Milvus' import jobs: over REST, of servers before 2.4 over gRPC
    importing  parts to rows of the collection, none twice
    writer     what `ingest` stores photos with, in place of upsert

What a run leaves behind, killed wherever it may be, is put right by the next one with the same staging:

- Jobs that still run at the server are waited for, and what jobs brought in is made visible, before anything is asked.
- A whole part (a file of its final name) is imported. A file that was not finished is thrown away: its photos are not
  in the collection, so that they are encoded again.
- Import adds rows and never replaces one. So of a part, what the collection holds already is upserted, and the rest is
  imported; nothing is deleted. This is done for every part, of this run or an earlier one, right before its job.
- A part is removed only when its job has ended and the collection holds each of its photos once.

It is meant for a server of many nodes, whose data nodes read the files. On one Milvus 2.3.5 on two cores it is the
slower way: 100,000 rows of 256 numbers took 38 s, by upsert 15 s; a job takes 10 s to be seen there, however small.
"""

from __future__ import annotations

from compsketch_milvus.bulk.importing import Imported, import_parts
from compsketch_milvus.bulk.jobs import ImportJobError, jobs_of
from compsketch_milvus.bulk.parts import CollectionFacts, Part, Parts, leftover
from compsketch_milvus.bulk.writer import BulkWriter

__all__ = [
    "BulkWriter",
    "CollectionFacts",
    "ImportJobError",
    "Imported",
    "Part",
    "Parts",
    "import_parts",
    "jobs_of",
    "leftover",
]
