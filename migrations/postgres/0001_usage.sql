-- Usage of dStore. Made and filled by `dstore reporting`; docs/REPORTING.md explains every column.
-- Rows never change: each is one record, told once under its id. Totals are sums over rows.

CREATE TABLE usage (
    id              uuid PRIMARY KEY,
    sequence        bigint NOT NULL,
    at              timestamptz NOT NULL,
    component_role  text NOT NULL,
    component_id    uuid NOT NULL,
    tenant_id       uuid NOT NULL,
    tenant_name     text,
    table_id        uuid,
    table_name      text,
    principal_id    uuid,
    operation       text NOT NULL,
    result          text NOT NULL,
    requests        bigint NOT NULL,
    read_bytes      bigint NOT NULL,
    written_bytes   bigint NOT NULL,
    read_half_units bigint NOT NULL,
    write_units     bigint NOT NULL,
    latency_sum_us  bigint NOT NULL,
    latency_buckets bigint[] NOT NULL
);
CREATE INDEX usage_by_time ON usage (at);
CREATE INDEX usage_of_tenants ON usage (tenant_id, at);

CREATE TABLE ranges (
    id              uuid PRIMARY KEY,
    sequence        bigint NOT NULL,
    at              timestamptz NOT NULL,
    component_role  text NOT NULL,
    component_id    uuid NOT NULL,
    tenant_id       uuid NOT NULL,
    tenant_name     text,
    table_id        uuid NOT NULL,
    table_name      text,
    range_id        uuid NOT NULL,
    items           bigint NOT NULL,
    stored_bytes    bigint NOT NULL,
    file_bytes      bigint NOT NULL,
    log_bytes       bigint NOT NULL,
    lag_entries     bigint NOT NULL
);
CREATE INDEX ranges_by_time ON ranges (at);
CREATE INDEX ranges_of_tenants ON ranges (tenant_id, at);

CREATE TABLE nodes (
    id              uuid PRIMARY KEY,
    sequence        bigint NOT NULL,
    at              timestamptz NOT NULL,
    component_role  text NOT NULL,
    component_id    uuid NOT NULL,
    cache_hits      bigint NOT NULL,
    cache_misses    bigint NOT NULL,
    queue_age_us    bigint NOT NULL,
    rejections      bigint NOT NULL,
    syncs           bigint NOT NULL,
    sync_us         bigint NOT NULL,
    log_bytes       bigint NOT NULL,
    disk_free_bytes bigint NOT NULL,
    disk_bytes      bigint NOT NULL,
    lag_entries     bigint NOT NULL
);
CREATE INDEX nodes_by_time ON nodes (at);

CREATE TABLE events (
    id              uuid PRIMARY KEY,
    sequence        bigint NOT NULL,
    at              timestamptz NOT NULL,
    kind            text NOT NULL,
    what            text NOT NULL,
    subject         text NOT NULL,
    message         text NOT NULL
);
CREATE INDEX events_by_time ON events (at);

-- Names may change and be unknown at first: ids decide what belongs together, and the greatest name known in the interval is shown.
CREATE VIEW usage_minute AS
SELECT date_trunc('minute', at, 'UTC') AS minute,
       tenant_id, max(tenant_name) AS tenant_name, table_id, max(table_name) AS table_name, operation, result,
       sum(requests) AS requests, sum(read_bytes) AS read_bytes, sum(written_bytes) AS written_bytes,
       sum(read_half_units) / 2.0 AS read_units, sum(write_units) AS write_units,
       sum(latency_sum_us) / nullif(sum(requests), 0) / 1000.0 AS latency_mean_ms
FROM usage
GROUP BY 1, tenant_id, table_id, operation, result;

CREATE VIEW usage_hour AS
SELECT date_trunc('hour', at, 'UTC') AS hour,
       tenant_id, max(tenant_name) AS tenant_name, table_id, max(table_name) AS table_name, operation, result,
       sum(requests) AS requests, sum(read_bytes) AS read_bytes, sum(written_bytes) AS written_bytes,
       sum(read_half_units) / 2.0 AS read_units, sum(write_units) AS write_units,
       sum(latency_sum_us) / nullif(sum(requests), 0) / 1000.0 AS latency_mean_ms
FROM usage
GROUP BY 1, tenant_id, table_id, operation, result;

CREATE VIEW usage_by_tenant AS
SELECT date_trunc('day', at, 'UTC') AS day,
       tenant_id, max(tenant_name) AS tenant_name,
       sum(requests) AS requests,
       coalesce(sum(requests) FILTER (WHERE result = 'throttled'), 0) AS requests_throttled,
       coalesce(sum(requests) FILTER (WHERE result = 'failed'), 0) AS requests_failed,
       sum(read_bytes) AS read_bytes, sum(written_bytes) AS written_bytes,
       sum(read_half_units) / 2.0 AS read_units, sum(write_units) AS write_units
FROM usage
GROUP BY 1, tenant_id;
