# Stands in for tensorflow/serving where images cannot be pulled: the project's test server (tests/tfserving),
# which takes the same flags and serves on the same ports. Built and named by deploy/compose_test.py only.
ARG TRAINER
FROM ${TRAINER}
LABEL seqserve.standin="tests/tfserving"
WORKDIR /opt/standin
COPY tests tests
COPY deploy/standins/tfserving.sh /usr/bin/tensorflow_model_server
ENTRYPOINT ["/usr/bin/tensorflow_model_server"]
CMD []
