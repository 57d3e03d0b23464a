#!/bin/sh
# Starts TensorFlow Serving: asks the keeper to check the models, waits for it, and serves the copy of the model
# config file that it wrote. Needs a POSIX shell and `sleep`: the official image has no Python.
#
# SEQSERVE_KEEPER: the folder shared with the keeper. SEQSERVE_MODEL_CONFIG: the original file, served where the
# keeper has never written a copy. SEQSERVE_KEEPER_SECONDS: how long to wait for it.
keeper=${SEQSERVE_KEEPER:-/keeper}
original=${SEQSERVE_MODEL_CONFIG:-/etc/tfserving/models.config}
left=${SEQSERVE_KEEPER_SECONDS:-60}

# several servers may share the folder: each asks under a name of its own
read -r id </proc/sys/kernel/random/uuid || id=$$
ask=$keeper/$id.ask
(: >"$ask") || left=0
while [ -e "$ask" ] && [ "$left" -gt 0 ]; do
    sleep 1
    left=$((left - 1))
done
if [ "$left" -le 0 ]; then
    echo "start.sh: no keeper has answered: the models are not checked" >&2
fi

config=$keeper/models.config
if [ ! -e "$config" ]; then
    echo "start.sh: there is no checked copy: serving $original as it is" >&2
    config=$original
fi
exec tensorflow_model_server --model_config_file="$config" "$@"
