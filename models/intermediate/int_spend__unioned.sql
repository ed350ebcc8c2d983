-- One row per record of the feed `spend`, of all engines that register one.

{{
    union_feeds(
        "spend",
        [
            "organization_id",
            "record_key",
            "occurred_at",
            "day",
            "partner_id",
            "campaign_id",
            "spend_amount",
            "clicks",
            "impressions",
        ],
    )
}}
