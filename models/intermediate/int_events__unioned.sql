-- One row per record of the feed `events` and event type, of all engines that register one.

{{
    union_feeds(
        "events",
        [
            "organization_id",
            "record_key",
            "occurred_at",
            "day",
            "partner_id",
            "campaign_id",
            "event_type",
            "event_count",
            "amount",
        ],
    )
}}
