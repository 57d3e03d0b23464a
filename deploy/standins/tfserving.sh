# The official image's entrypoint: its own arguments, then those given.
exec python -m tests.tfserving --port=8500 --rest_api_port=8501 \
    --model_name=model --model_base_path=/models/model "$@"
