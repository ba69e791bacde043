#!/bin/bash
# Score a corpus in 64 shards with Slurm: sbatch deploy/corpus-array.sh INPUT OUTPUT [OPTION...]
# Progress: max-gpt2 corpus status OUTPUT --shards 64. To run shards 3 and 7 again: sbatch --array=3,7 ...
#SBATCH --job-name=score-corpus
#SBATCH --array=1-64%16
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=2G
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=score-corpus-%A-%a.log
set -euo pipefail

# Not SLURM_ARRAY_TASK_COUNT, which is smaller when only some shards run again.
shards=64
input=$1 output=$2
shift 2

# Exit code 1 means that the shard is complete and some rows have errors, which are in the column `error`.
max-gpt2 score --model gpt2 --input "$input" --output "$output" --unit text \
  --workers 1 --threads-per-worker "$SLURM_CPUS_PER_TASK" --shard "$SLURM_ARRAY_TASK_ID/$shards" "$@" || test $? -eq 1
