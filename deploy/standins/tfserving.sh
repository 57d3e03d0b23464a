#!/bin/sh
# In the place of the program of that name; its folder has the module.
cd /opt/standin && exec python -m tests.tfserving "$@"
