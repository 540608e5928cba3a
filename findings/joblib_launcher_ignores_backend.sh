#!/usr/bin/env bash
# hydra-joblib-launcher 1.2.0 takes hydra.launcher.backend, whose comment in its own configuration says that the key
# "allows to hard-code backend", and then uses joblib's back end loky whatever the key says, without a word. So a sweep
# can be sent to Dask, or kept in threads, only by registering another back end under the name "loky".
#
# Seen with hydra-core 1.3.8, hydra-joblib-launcher 1.2.0 and joblib 1.6.0: two jobs with backend=threading run in
# processes of their own. Exit status 0: seen again; 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --target "$folder/packages" hydra-core==1.3.8 hydra-joblib-launcher==1.2.0 joblib==1.6.0 2> /dev/null
mkdir "$folder/conf"
printf 'defaults:\n  - override hydra/launcher: joblib\nx: 0\n' > "$folder/conf/config.yaml"
cat > "$folder/app.py" <<'PYTHON'
import os
import hydra

@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg):
    with open(os.path.join(os.environ["FOLDER"], f"job-{cfg.x}"), "w") as file:
        file.write(str(os.getpid()))

if __name__ == "__main__":
    with open(os.path.join(os.environ["FOLDER"], "launcher"), "w") as file:
        file.write(str(os.getpid()))
    main()
PYTHON
run() {  # runs two jobs with the stated back end, and says whether a job ran in the process of the launcher
  rm -f "$folder"/job-*
  (cd "$folder" && FOLDER="$folder" PYTHONPATH="$folder/packages" python3 app.py --multirun x=1,2 "hydra.launcher.backend=$1" \
    hydra.launcher.n_jobs=2 > /dev/null 2>&1)
  if grep -qx "$(cat "$folder/launcher")" "$folder/job-1" "$folder/job-2"; then echo here; else echo elsewhere; fi
}
threads=$(run threading)
sequential=$(run sequential)
echo "backend=threading: jobs run $threads"
echo "backend=sequential: jobs run $sequential"
[ "$threads" = elsewhere ] && [ "$sequential" = elsewhere ] || exit 1
