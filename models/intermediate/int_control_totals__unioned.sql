-- One row per record of the feed `control_totals`, of all engines that register one.

{{
    union_feeds(
        "control_totals",
        [
            "organization_id",
            "record_key",
            "day",
            "partner_id",
            "spend_amount",
            "revenue_amount",
            "events",
            "impressions",
            "clicks",
            "precision",
        ],
    )
}}
