-- One row per record of the feed `campaigns`, of all engines that register one.

{{
    union_feeds(
        "campaigns",
        [
            "organization_id",
            "record_key",
            "campaign_id",
            "partner_id",
            "name",
            "objective",
            "created_at",
        ],
    )
}}
