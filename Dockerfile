# The relay's image: one static binary, the system's roots for TLS, and nothing else; no shell, no package manager.
#
#   docker build -t outrider .
#   docker run --rm outrider version
#
# The context needs .git: from it the go command stamps the version and the commit into the binary.
ARG GO_VERSION=1.26

FROM --platform=$BUILDPLATFORM golang:${GO_VERSION}-bookworm AS build
WORKDIR /src
# The modules have a layer of their own, which lasts until one of them changes.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS
ARG TARGETARCH
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -buildvcs=true -ldflags=-s -o /out/outrider ./cmd/outrider

FROM scratch
LABEL org.opencontainers.image.title="Outrider" \
      org.opencontainers.image.description="Relays a Postgres outbox to Kafka: in order, none lost, none twice" \
      org.opencontainers.image.source="https://github.com/outrider-relay/outrider" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/outrider /outrider
# As a number, for Kubernetes cannot know of a name that it is not root.
USER 65532:65532
# An outrider.yaml that is mounted here is read without being named.
WORKDIR /etc/outrider
EXPOSE 9187
ENTRYPOINT ["/outrider"]
CMD ["run"]
