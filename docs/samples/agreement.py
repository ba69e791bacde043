"""Average the surprisal of the verb by condition. Run it where `max-gpt2 score` wrote agreement.parquet."""

import pandas as pd

stimuli = pd.read_json("docs/samples/agreement.jsonl", lines=True)
words = pd.read_parquet("agreement.parquet")  # one row for each word
words["id"] = words["id"].astype(int)  # ids are strings in the table

data = words.merge(stimuli, on="id", validate="many_to_one")
verbs = data[data["text"] == data["verb"]]  # the critical word: was or were
assert len(verbs) == len(stimuli), "a sentence does not have exactly one critical word"

print(verbs.pivot_table(index="item", columns=["local", "verb"], values="surprisal").round(2))
print()
print(verbs.pivot_table(index="local", columns="verb", values="surprisal").round(2))
