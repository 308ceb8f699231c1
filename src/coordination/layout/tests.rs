//! Every key is spelled as it always was, and read back.

use proptest::prelude::*;

use super::*;

fn names() -> (TenantName, TableName) {
    (TenantName::new("acme").unwrap(), TableName::new("Users.v2").unwrap())
}

/// Every key and every prefix that this module can spell.
#[test]
fn the_spelling_is_pinned() {
    let (tenant, table) = names();
    const UUID: &str = "11111111-1111-1111-1111-111111111111";
    let bytes = [0x11; 16];
    let id = NodeId::from_bytes(bytes);
    let at = Timestamp(1_767_225_600_000_042);
    for (spelled, expected) in [
        (node(id), "node/UUID/"),
        (node_details(id), "node/UUID/details"),
        (node_alive(id), "node/UUID/alive"),
        (node_tables(id), "node/UUID/id/"),
        (node_table_details(id, &tenant, &table), "node/UUID/id/acme/Users.v2/details"),
        (node_table_ranges(id, &tenant, &table), "node/UUID/id/acme/Users.v2/hash/"),
        (node_range(id, &tenant, &table, 0), "node/UUID/id/acme/Users.v2/hash/0000000000"),
        (proxy(ProxyId::from_bytes(bytes)), "proxy/UUID/"),
        (proxy_alive(ProxyId::from_bytes(bytes)), "proxy/UUID/alive"),
        (tenant_routes(&tenant), "tenant/acme/"),
        (table_routes(&tenant, &table), "tenant/acme/Users.v2/"),
        (route(&tenant, &table, 32768), "tenant/acme/Users.v2/0000032768"),
        (route(&tenant, &table, u32::MAX), "tenant/acme/Users.v2/4294967295"),
        (node_notices(id), "notice/UUID/"),
        (notice(id, at, 7), "notice/UUID/2026-01-01T00:00:00.000042Z-000007"),
        (stored(id), "stored/UUID"),
        (control_tenant(&tenant), "control/tenant/acme"),
        (control_tenant_tables(&tenant), "control/table/acme/"),
        (control_table(&tenant, &table), "control/table/acme/Users.v2"),
        (control_table_deleted(TableId::from_bytes(bytes)), "control/table-deleted/UUID"),
        (control_principal(PrincipalId::from_bytes(bytes)), "control/principal/UUID"),
        (control_access_key("AKIA/1"), "control/access-key/AKIA%2F1"),
        (control_session(SessionId::from_bytes(bytes)), "control/session/UUID"),
        (control_role("read only"), "control/role/read%20only"),
        (control_node(id), "control/node/UUID"),
        (control_proxy(ProxyId::from_bytes(bytes)), "control/proxy/UUID"),
        (control_reporter(ReporterId::from_bytes(bytes)), "control/reporter/UUID"),
        (control_join_token("00ff"), "control/join-token/00ff"),
        (control_key(&["token"]), "control/key/token"),
        (control_key(&["tenant", "a/b"]), "control/key/tenant/a%2Fb"),
        (control_job(uuid::Uuid::from_bytes(bytes)), "control/job/UUID"),
        (control_history("table/acme/users", 3), "control/history/table/acme/users/0000000003"),
        (control_history_of("table/acme/users"), "control/history/table/acme/users/"),
        (control_event(at, 7), "control/event/2026-01-01T00:00:00.000042Z-000007"),
        (control_range(crate::domain::ids::RangeId::from_bytes(bytes)), "control/range/UUID"),
        (control_election_value(ControlId::from_bytes(bytes)), "UUID"),
    ] {
        assert_eq!(spelled, expected.replace("UUID", UUID));
    }
    let constants = [
        (ROUTES, "tenant/"),
        (NODES, "node/"),
        (NOTICES, "notice/"),
        (STORED, "stored/"),
        (CONTROL_ELECTION, "control/election"),
        (CONTROL_CLUSTER, "control/cluster"),
        (CONTROL_LOG_LEVEL, "control/log-level"),
    ];
    assert!(constants.iter().all(|(spelled, expected)| spelled == expected), "{constants:?}");
    assert_eq!(timestamp_text(Timestamp(u64::MAX), 0), "9999-12-30T22:00:00.999999Z-000000");
}

#[test]
fn a_table_does_not_list_its_longer_sibling() {
    let tenant = TenantName::new("acme").unwrap();
    let sibling = route(&tenant, &TableName::new("users2").unwrap(), 0);
    assert!(!sibling.starts_with(&table_routes(&tenant, &TableName::new("users").unwrap())));
}

#[test]
fn foreign_keys_are_not_parsed() {
    for key in [
        "tenant/acme/users/7",
        "tenant/acme/users/0000000007/x",
        "tenant/acme/users",
        "tenant/A/users/0000000007",
        "tenant/acme/users/9999999999",
        "tenant/acme/users/+000000007",
        "control/tenant/acme",
    ] {
        assert_eq!(RouteKey::parse(key), None, "{key}");
    }
    assert_eq!(NodeKey::parse("node/nobody/details"), None);
    assert_eq!(parse_control_table("control/table/acme"), None);
}

proptest! {
    #[test]
    fn routes_and_node_keys_come_back(tenant in "[a-z0-9-]{1,63}", table in "[A-Za-z0-9_.-]{3,255}", low_hash: u32, id: [u8; 16]) {
        let (tenant, table) = (TenantName::new(&tenant).unwrap(), TableName::new(&table).unwrap());
        let node = NodeId::from_bytes(id);
        let parts = RouteKey { tenant: tenant.clone(), table: table.clone(), low_hash };
        prop_assert_eq!(RouteKey::parse(&route(&tenant, &table, low_hash)), Some(parts.clone()));
        prop_assert_eq!(NodeKey::parse(&node_range(node, &tenant, &table, low_hash)), Some(NodeKey::Range(node, parts)));
        prop_assert_eq!(NodeKey::parse(&node_details(node)), Some(NodeKey::Details(node)));
        prop_assert_eq!(NodeKey::parse(&node_alive(node)), Some(NodeKey::Alive(node)));
        prop_assert_eq!(parse_stored(&stored(node)), Some(node));
        prop_assert_eq!(parse_proxy_alive(&proxy_alive(ProxyId(node.0))), Some(ProxyId(node.0)));
        prop_assert_eq!(
            NodeKey::parse(&node_table_details(node, &tenant, &table)),
            Some(NodeKey::Table(node, tenant.clone(), table.clone()))
        );
        prop_assert_eq!(parse_control_table(&control_table(&tenant, &table)), Some((tenant, table)));
    }

    #[test]
    fn the_order_of_keys_is_the_order_of_hashes_and_times(a: u32, b: u32, s in 0u64..4_000_000_000_000_000, t in 0u64..4_000_000_000_000_000) {
        prop_assert_eq!(low_hash_text(a).cmp(&low_hash_text(b)), a.cmp(&b));
        prop_assert_eq!(timestamp_text(Timestamp(s), 0).cmp(&timestamp_text(Timestamp(t), 0)), s.cmp(&t));
        prop_assert_eq!(parse_timestamp(&timestamp_text(Timestamp(s), a % 1_000_000)), Some(Timestamp(s)));
    }

    #[test]
    fn escaped_parts_are_single_and_distinct(a in ".{0,12}", b in ".{0,12}") {
        prop_assert!(!escape(&a).contains('/'));
        prop_assert_eq!(escape(&a) == escape(&b), a == b);
    }
}
