# The official image's entrypoint: its own arguments, then those given. The test server reads its model config
# file once, so the flag that has it read again is left out.
for argument do
    shift
    case $argument in
        --model_config_file_poll_wait_seconds=*) ;;
        *) set -- "$@" "$argument" ;;
    esac
done
exec python -m tests.tfserving --port=8500 --rest_api_port=8501 \
    --model_name=model --model_base_path=/models/model "$@"
