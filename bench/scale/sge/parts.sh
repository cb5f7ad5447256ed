#!/bin/bash
# Slides without MPI, as arrays of jobs that do a part each; as many arrays as the scheduler's limit of tasks asks for.
#
#   bash bench/scale/sge/parts.sh N SLIDE|FOLDER|LIST.csv RESULTS-FOLDER [OPTION...]
#
# Not given to qsub, but called: it submits itself. One SLIDE is done in N parts, of several slides each job does one in N.
# Call it again with the same words once all jobs have ended: it submits again only what failed or is missing, and when
# nothing is, it joins the parts of one SLIDE. PYRAMIDAI_COMMAND="patches extract" extracts patches instead of running.
# OPTIONs are those of the command, such as --stride 16 --mode reference --stride-mode adaptive for windows at a stride.
# For SGE, Son of Grid Engine, Univa and Altair Grid Engine.
#$ -S /bin/bash
#$ -cwd
#$ -V
#$ -N pyramidai-part
#$ -j y
# Memory: Python, the networks and the slide's cache; a limit of addresses, of which libraries take more than of memory.
#$ -l h_vmem=6G
# For one part. Killed at that limit, it is gone on with by the next call.
#$ -l h_rt=02:00:00

# The first failing command ends the task with its exit code.
set -euo pipefail
n_parts=$1 slides=$2 results=$3
shift 3
# Site: the Python environment that holds pyramidai_mpi.
# shellcheck source=/dev/null
. "${PYRAMIDAI_ENVIRONMENT:-$HOME/pyramidai}/bin/activate"
# Whatever your shell or site says: one thread.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
case $slides in *.csv) named=(--slides "$slides") ;; *) named=("$slides") ;; esac
command=(run "${named[@]}" --results-dir "$results")
merge=(merge "$results" --slides "$slides" --parts "$n_parts")
if [ "${PYRAMIDAI_COMMAND:-run}" != run ]; then
  command=(patches extract "$slides" -o "$results")
  merge+=(--patches)
fi

if [ "${SGE_TASK_ID:-undefined}" != undefined ]; then
  # A task: its line of the list, after those of the arrays before; arrays here have no gaps in their numbers.
  part=$(sed -n "$((PYRAMIDAI_OFFSET + SGE_TASK_ID))p" "$PYRAMIDAI_TO_DO")
  exec python -m pyramidai_mpi "${command[@]}" --part "$part/$n_parts" --resume "$@"
fi

# Called by hand: where the results go; all nodes must see it.
mkdir -p "$results"
missing=$(python -m pyramidai_mpi "${merge[@]}" --missing)
rm -f "$results"/parts-to-do.*
if [ -z "$missing" ]; then
  exec python -m pyramidai_mpi "${merge[@]}"
fi
to_do=$(mktemp "$(cd "$results" && pwd)/parts-to-do.XXXXXX")
echo "$missing" >"$to_do"
n_left=$(wc -l <"$to_do")
# The most tasks of an array, 0 for any.
limit=${PYRAMIDAI_ARRAY_LIMIT:-$(qconf -sconf | awk '$1 == "max_aj_tasks" { print $2 }')}
if [ "${limit:-0}" -eq 0 ]; then limit=$n_left; fi
# PYRAMIDAI_AT_ONCE: so many tasks of an array at a time.
at_once=()
if [ -n "${PYRAMIDAI_AT_ONCE-}" ]; then at_once=(-tc "$PYRAMIDAI_AT_ONCE"); fi
for ((offset = 0; offset < n_left; offset += limit)); do
  tasks=$((n_left - offset < limit ? n_left - offset : limit))
  qsub -t "1-$tasks" "${at_once[@]}" -v "PYRAMIDAI_OFFSET=$offset,PYRAMIDAI_TO_DO=$to_do" \
    "$0" "$n_parts" "$slides" "$results" "$@"
done
