# The images. No RUN --mount and no here-documents: the classic builder is enough. `ci/images` builds the targets.

# builder-loadgen compiles the load generator, which needs no C. It and its image come first, because the classic builder
# makes every stage above the wanted one, and this one takes seconds where the proxy's takes minutes.
FROM golang:1.26-bookworm AS builder-loadgen
WORKDIR /src
ARG GOPROXY
ARG GOSUMDB
ARG GONOSUMDB
ARG GONOPROXY
ARG GOPRIVATE
ENV CGO_ENABLED=0 GOFLAGS=-trimpath
COPY go.mod go.sum ./
# Its dependencies, as for the proxy below.
RUN go build net/http encoding/json html/template golang.org/x/sys/unix github.com/alecthomas/kong \
      github.com/HdrHistogram/hdrhistogram-go github.com/shirou/gopsutil/v4/process github.com/shirou/gopsutil/v4/net \
      github.com/vbauerster/mpb/v8 golang.org/x/image/vp8
COPY fixtures fixtures
COPY loadgen loadgen
RUN go build -ldflags='-s -w' -o /out/tureen-loadgen ./loadgen/cmd/tureen-loadgen

# loadgen is the load generator: one static binary, and the certificate authorities for targets with TLS.
FROM scratch AS loadgen
COPY --from=builder-loadgen /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
USER 10001:10001
ENTRYPOINT ["/usr/local/bin/tureen-loadgen"]
LABEL org.opencontainers.image.title="tureen-loadgen" \
      org.opencontainers.image.description="Load generator for live streaming proxies: latency, losses and cost, measured from outside" \
      org.opencontainers.image.licenses="MIT"
COPY --from=builder-loadgen /out/tureen-loadgen /usr/local/bin/tureen-loadgen

# builder compiles the proxy. Its layers go from what changes seldom to what changes often: packages, dependencies, sources.
FROM golang:1.26-bookworm AS builder
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      pkg-config libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src

# How this network reaches Go modules; unset means Go's own defaults.
ARG GOPROXY
ARG GOSUMDB
ARG GONOSUMDB
ARG GONOPROXY
ARG GOPRIVATE
# As in the builds below, which otherwise compile everything once more.
ENV CGO_ENABLED=1 GOFLAGS=-trimpath

# The proxy's dependencies, downloaded and compiled before the sources come in, so that only go.mod and go.sum invalidate
# them. (All modules would be 0.3 GB, most of them the tests'.) The list is by hand; what it lacks comes with the sources,
# which costs time and nothing else.
COPY go.mod go.sum ./
RUN go build net/http encoding/json log/slog golang.org/x/sys/unix \
      github.com/alecthomas/kong gopkg.in/yaml.v3 \
      github.com/go-gst/go-gst/gst github.com/go-gst/go-gst/gst/app

COPY impl impl
RUN go build -ldflags='-s -w' -o /out/tureen ./impl/cmd/tureen

# proxy is the transcoding proxy: one binary, and GStreamer's plug-ins for what it transcodes.
FROM debian:bookworm-slim AS proxy
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      gstreamer1.0-plugins-base \
      gstreamer1.0-plugins-good \
      gstreamer1.0-plugins-bad \
      gstreamer1.0-plugins-ugly \
      gstreamer1.0-libav \
      gstreamer1.0-tools \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log
# By number in USER, so that an orchestrator can see that it isn't root.
RUN groupadd --gid 10001 tureen \
 && useradd --uid 10001 --gid tureen --home-dir /var/lib/tureen --no-create-home --shell /usr/sbin/nologin tureen \
 && install -d -o tureen -g tureen /var/lib/tureen
USER 10001:10001
WORKDIR /var/lib/tureen
# GStreamer's list of its plug-ins, made once: the first transcoder would make it otherwise, which takes seconds.
ENV GST_REGISTRY=/var/lib/tureen/plug-ins GST_REGISTRY_FORK=no
RUN gst-inspect-1.0 >/dev/null
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["tureen", "health"]
ENTRYPOINT ["tureen"]
LABEL org.opencontainers.image.title="tureen" \
      org.opencontainers.image.description="Live transcoding proxy: media in by HTTP PUT, WebM out to any number of viewers" \
      org.opencontainers.image.licenses="MIT"
# The last, because it changes most: every layer takes seconds on an engine without a native diff.
COPY --from=builder /out/tureen /usr/local/bin/tureen

# suite-builder compiles the conformance suite, which needs nothing of the proxy. (Its name keeps ci/images from making an
# image of it.)
FROM golang:1.26-bookworm AS suite-builder
WORKDIR /src
ARG GOPROXY
ARG GOSUMDB
ARG GONOSUMDB
ARG GONOPROXY
ARG GOPRIVATE
ENV CGO_ENABLED=0 GOFLAGS=-trimpath
COPY go.mod go.sum ./
RUN go build github.com/onsi/ginkgo/v2 github.com/onsi/gomega github.com/vbauerster/mpb/v8 github.com/alecthomas/kong \
      gopkg.in/yaml.v3 net/http html/template
COPY fixtures fixtures
COPY conformance conformance
RUN go build -ldflags='-s -w' -o /out/tureen-conformance ./conformance/cmd/tureen-conformance

# conformance is the suite: one binary, and a folder for its reports. `docker run --rm --network host -v "$PWD/out:/out"
# tureen-conformance --target URL --report-dir /out` judges a target.
FROM debian:bookworm-slim AS conformance
ENTRYPOINT ["tureen-conformance"]
LABEL org.opencontainers.image.title="tureen-conformance" \
      org.opencontainers.image.description="Judges live transcoding proxies by their specification" \
      org.opencontainers.image.licenses="MIT"
COPY --from=suite-builder /out/tureen-conformance /usr/local/bin/tureen-conformance
