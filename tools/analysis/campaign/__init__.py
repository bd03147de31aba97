"""Parts of the fault campaign (``tools/analysis/fault_campaign.py``)."""
