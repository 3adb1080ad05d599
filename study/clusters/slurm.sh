#!/bin/bash
# A study on the nodes of a Slurm job: sbatch slurm.sh SPEC [OPTION of gaplab run]...
# See docs/cluster/slurm.md; edit the lines marked EDIT.
#SBATCH --job-name=gaplab
#SBATCH --nodes=2                # EDIT
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16       # EDIT
#SBATCH --gpus-per-node=1        # EDIT: leave out for CPUs only
#SBATCH --time=24:00:00          # EDIT
#SBATCH --signal=B:TERM@120      # two minutes before the end gaplab is told to stop
#SBATCH --requeue                # a job that was pre-empted goes on from its records
set -euo pipefail

storage=${GAPLAB_STORAGE:-$SLURM_SUBMIT_DIR/results} # a file system that all nodes share
port=$((20000 + SLURM_JOB_ID % 20000))
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
address=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{print $1}'):$port
started=()
trap '((${#started[@]})) && kill "${started[@]}" 2>/dev/null || true' EXIT

begin() { # NODE RAY-OPTION...
    local node=$1
    shift
    srun --overlap --nodes=1 --ntasks=1 --nodelist="$node" ray start --block --num-cpus="${SLURM_CPUS_PER_TASK:-1}" "$@" &
    started+=($!)
}

begin "$head" --head --port="$port" --include-dashboard=false
for _ in {1..60}; do
    ray status --address="$address" >/dev/null 2>&1 && break
    sleep 2
done
for node in "${nodes[@]:1}"; do
    begin "$node" --address="$address"
done

gaplab run "$@" --address "$address" --storage "$storage" &
study=$!
trap 'kill -TERM $study' TERM
wait "$study" && code=0 || code=$?
while kill -0 "$study" 2>/dev/null; do # wait came back for the signal: gaplab is still stopping cleanly
    wait "$study" && code=0 || code=$?
done
exit "$code"
