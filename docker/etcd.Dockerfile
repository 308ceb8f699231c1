# etcd from Debian's packages, where ETCD_IMAGE names no other, as the image of the etcd project. BASE is an image that has
# etcd and etcdctl installed, as scripts/swarm.sh makes one. Like the official image it has no entry point and keeps
# its data in /var/lib/etcd; unlike it, it runs as a user without rights.
ARG BASE
FROM ${BASE} AS image
LABEL dstore.stage=image
WORKDIR /source
COPY docker/gather.sh docker/gather.sh
RUN sh docker/gather.sh /image /usr/bin/etcd /usr/bin/etcdctl

FROM scratch
COPY --from=image /image/system/ /
COPY --from=image --chown=65532:65532 /image/owned/ /
USER 65532:65532
EXPOSE 2379 2380
CMD ["etcd"]
