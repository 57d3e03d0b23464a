# Stands in for prom/prometheus where images cannot be pulled: Debian's package, with the official image's
# user and folder. Built and named by deploy/compose_test.py only.
ARG PYTHON
FROM ${PYTHON}
LABEL seqserve.standin="Debian's package prometheus"
RUN apt-get update -qq && apt-get install -qqy --no-install-recommends prometheus \
    && rm -rf /var/lib/apt/lists/* && mkdir -p /prometheus && chown nobody /prometheus
USER nobody
WORKDIR /prometheus
ENTRYPOINT ["/usr/bin/prometheus"]
