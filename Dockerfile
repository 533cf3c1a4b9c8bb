# The image of the gate: one static binary, the certificate authorities, the default configuration.
#
#     docker build -t faregate .
#     docker run --read-only --tmpfs /tmp -p 8080:8080 -p 9902:9902 faregate
#
# Put your own faregate.toml and tokens.toml over /etc/faregate, or give another path with `serve --config FILE`.

# Anything with cargo, a C compiler and glibc's static libraries; /etc/ssl/certs is copied from it.
ARG BUILDER_IMAGE=docker.io/library/rust:1.95-bookworm
# Anything at all, an empty image included: the binary brings what it needs.
ARG RUNTIME_IMAGE=gcr.io/distroless/static-debian12:nonroot

FROM ${BUILDER_IMAGE} AS builder
WORKDIR /build
COPY . .
# `--target` keeps the static linking away from build scripts and procedural macros, which the compiler loads. The
# folder /image is what the second stage takes as it is. /tmp is there for `faregate demo`.
RUN set -eu; \
    target="$(rustc -vV | sed -n 's/^host: //p')"; \
    RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --bin faregate --target "$target"; \
    install -D -m 0755 "target/$target/release/faregate" /image/usr/bin/faregate; \
    install -D -m 0644 /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt; \
    install -d -m 1777 /image/tmp; \
    install -D -m 0644 config/faregate.toml /configuration/faregate.toml; \
    install -D -m 0600 config/tokens.toml /configuration/tokens.toml; \
    rm -rf target

FROM ${RUNTIME_IMAGE}
COPY --from=builder /image/ /
# Its own, so that the admin API can edit the tokens where the root is not read-only.
COPY --from=builder --chown=65532:65532 /configuration/ /etc/faregate/
USER 65532:65532
# Clients; probes and metrics.
EXPOSE 8080 9902
ENTRYPOINT ["/usr/bin/faregate"]
CMD ["serve", "--config", "/etc/faregate/faregate.toml"]
