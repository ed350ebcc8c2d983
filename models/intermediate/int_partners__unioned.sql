-- One row per record of the feed `partners`, of all engines that register one.

{{
    union_feeds(
        "partners",
        [
            "organization_id",
            "record_key",
            "partner_id",
            "name",
            "region",
            "status",
        ],
    )
}}
