"""Write the texts of `scored` with a perplexity of at most 150 and ten tokens or more to kept.parquet."""

import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

parts = ds.dataset("scored", format="parquet")  # skips the plan and the manifest
keep = (pc.field("perplexity") <= 150) & (pc.field("tokens") >= 10)  # null for a row with an error
scanner = parts.scanner(columns=["id", "source", "text", "perplexity"], filter=keep)

rows = 0
with pq.ParquetWriter("kept.parquet", scanner.projected_schema) as writer:
    for batch in scanner.to_batches():  # one at a time, in the order of the input
        writer.write_batch(batch)
        rows += batch.num_rows
print(f"{rows} of {parts.count_rows()} texts kept")
