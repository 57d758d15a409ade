#!/bin/bash
# sbatch docs/cluster/slurm.sh
#SBATCH --nodes=2 --ntasks-per-node=1 --gpus-per-node=4 --cpus-per-task=16
#SBATCH --signal=TERM@120 --requeue
hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed 's/.*/"&:12345"/' | paste -sd,)
export CLUSTER="{\"worker\": [$hosts]}"
srun bash -c '
  export TF_CONFIG="{\"cluster\": $CLUSTER, \"task\": {\"type\": \"worker\", \"index\": $SLURM_PROCID}}"
  exec python -m lrn_tf.main --benchmark=min_mtl --distribute=multi_worker --data_dir=/shared/tensorflow_datasets \
    --workdir=/shared/runs/min_mtl --checkpoint_every=100 --epochs=100' || exit
# Two minutes before its time is up training saves and ends with 0; only epoch 100 is its end.
grep -q '"epoch": 100,' /shared/runs/min_mtl/metrics.jsonl || scontrol requeue "$SLURM_JOB_ID"
