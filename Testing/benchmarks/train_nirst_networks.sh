#!/usr/bin/env bash
# The full recipe: simulates the phantoms, trains every NIRST network and fills the table, in one call.
#
#   Testing/benchmarks/train_nirst_networks.sh FOLDER [full|small]
#
# full (default): 18,000 + 23,000 phantoms, 200 epochs, 100 pixels; for a GPU with 80 GB or more.
# small: 10,000 + 4,500 phantoms, half the width, 4 to 36 epochs, 48 pixels (64 for the hybrid); about two hours of one
# core with AVX512-BF16. It made the weights that are shipped and the table beside this script.
# Stopped at any time, the same call goes on where it was. Several GPUs: RUN="torchrun --nproc-per-node=8 -m".
# A budget for each command, such as LIMIT="timeout 540", lets a scheduler cut the work into pieces.
set -euo pipefail
folder=${1:?give a folder for data, runs and table}
recipe=${2:-full}
root=$(cd "$(dirname "$0")/../.." && pwd)
export PYTHONPATH="$root/WeakSegment:$root/NIRSTReconstruction${PYTHONPATH:+:$PYTHONPATH}"
export MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TRIM_THRESHOLD_=8000000000 # glibc keeps large arrays: a third faster
python=${PYTHON:-python3}
run=${RUN:-$python -m}

nirst() { ${LIMIT:-} $run NIRSTReconstructionLib "$@"; }
generate() { ${LIMIT:-} "$python" -m NIRSTReconstructionLib generate "$@"; }

declare -A more=()
bodies=("36 46 16" "48 38 12" "44 35 16" "39 47 20")
if [ "$recipe" = full ]; then
  matched=18000 mixed=14000 shaped=1500 deep=3000 count=2000 other=500 slow=50 seeds="0 1 2 3 4"
else
  matched=10000 mixed=3000 shaped=300 deep=300 count=2000 other=200 slow=10 seeds="0"
  brief="--small --bfloat16 --epochs"
  more=([znet]="$brief 36 --learning-rate 0.006" [ynet]="$brief 6" [no-mri]="$brief 4" [mri-only]="$brief 4"
    [hybrid]="$brief 24 --pixels 64 --looks 1 --learning-rate 0.003")
fi
wrong=(--no-contrast 15 --mri-invisible 15)

generate --count $matched --seed 2 --output "$folder/matched"
generate --count $mixed --seed 1 "${wrong[@]}" --output "$folder/mixed"
generate --count $deep --seed 13 "${wrong[@]}" --source-model point --output "$folder/point"
shapes=()
for body in "${bodies[@]}"; do
  read -r x y fibers <<<"$body"
  shapes+=("$folder/body_${x}_${y}_${fibers}")
  generate --count $shaped --seed $((x * y)) "${wrong[@]}" --half-axes "$x" "$y" --fibers "$fibers" \
    --output "${shapes[-1]}"
done

networks=()
for network in znet ynet no-mri mri-only; do
  nirst train --network "$network" ${more[$network]:-} --data "$folder/matched" --output "$folder/$network"
  networks+=("$folder/$network/model.safetensors")
done
for seed in $seeds; do
  nirst train --network hybrid ${more[hybrid]:-} --seed "$seed" --output "$folder/hybrid_$seed" \
    --data "$folder/mixed" "$folder/point" "${shapes[@]}"
  networks+=("$folder/hybrid_$seed/model.safetensors")
done

table() { ${LIMIT:-} "$python" -m NIRSTReconstructionLib evaluate "$@"; }
table --networks "${networks[@]}" --data "$folder/test" --output "$folder/nirst_networks.csv" \
  --methods linear-mmse tikhonov dri hard-prior adaptive \
  --count $count --other-count $other --slow-count $slow \
  --note "Testing/benchmarks/train_nirst_networks.sh FOLDER $recipe"
# To ship them: ship_nirst_networks.py "$folder" "one sentence on the recipe"
