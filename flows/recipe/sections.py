"""Recipe sections of the release: what is registered, what the gates ask for, and what only people can say of it."""

from __future__ import annotations

from pydantic import Field

from infra.section import Section

__all__ = ["DisclosureConfig", "PromoteConfig", "RegistryConfig"]


class RegistryConfig(Section):
    """How the released model is named, and what follows it."""

    model: str = Field("", pattern=r"^[^/:]*$")
    """Name in MLflow's registry; ``deepmill-`` and the recipe's name when empty."""
    browser: str = ""
    """A folder that gets each champion that a run makes as a page that runs it in a browser, as `deepmill export
    --browser` writes it; none when empty."""


class PromoteConfig(Section):
    """Gates a version must pass before the alias `champion` moves to it."""

    alias: str = "champion"
    """The alias that serving follows."""
    min_accuracy: float = Field(0.01, ge=0, le=1)
    """Least share of held-out problems answered right; for a first version too. 0 lets one pass that answers none."""
    min_format_rate: float = Field(0.0, ge=0, le=1)
    """Least share of answers in the asked-for format."""
    max_quantization_kl: float = Field(0.1, gt=0)
    """Most Kullback-Leibler divergence (nats per token) of the registered weights to full precision."""
    must_match_champion: bool = True
    """Refuse a version whose accuracy interval (95 %) lies wholly below the champion's."""
    max_domain_regression: float = Field(0.1, ge=0)
    """Most relative rise of bits per byte against the champion, on any source that both were measured on."""
    max_forgetting: float = Field(0.2, ge=0)
    """Most relative rise of bits per byte, on any source, since the base model that it was fine-tuned from; for a first
    version too. What goes on reading text (`sft.replay`) stays below; 0: not asked."""
    check_files: bool = True
    """Fetch the registered files and compare them with the checksums they were registered with."""
    check_removals: bool = True
    """Refuse a version whose training text had documents that somebody asked to have removed (`deepmill remove`)."""
    require_card: bool = True
    """Refuse a version whose model card lacks a section."""
    require_licence: bool = False
    """Refuse a version whose card states no licence for the weights."""


class DisclosureConfig(Section):
    """What only people can say of a model and its data, for `deepmill disclose`. All of it may be left out: nothing is
    guessed, and what is missing is shown as not stated."""

    provider: str = ""
    """Name and address of who places the model on the market."""
    contact: str = ""
    """How the provider is reached."""
    eu_representative: str = ""
    """Authorised representative in the EU, with contact; for providers outside of it."""
    summary_version: str = ""
    """Of the summary."""
    summary_date: str = ""
    """When it was last updated."""
    base_summaries: str = ""
    """Where the summaries of the models are that this one was made from."""
    eu_market_date: str = ""
    """When the model was placed on the market of the EU."""
    purpose: str = ""
    """What the model is for, and what the data do for that."""
    content: str = ""
    """Types of content: fiction, news, scientific texts, source code, ..."""
    last_acquired: str = ""
    """When data was last acquired, as MM/YYYY."""
    collected: str = ""
    """From when to when the data was collected."""
    continuous: bool | None = None
    """Whether data is still collected for this model after its release."""
    characteristics: str = ""
    """What else is to be said of the data, such as regions and groups of people."""
    small_enterprise: bool | None = None
    """Whether the provider is a small or medium enterprise: it names 5 % of crawled domains, or 1,000, not 10 %."""
    public_data: str = ""
    """Public data sets (2.1): what they are, where their links do not say it."""
    has_licences: bool | None = None
    """Whether data was licensed from rightsholders (2.2.1)."""
    private_data: str = ""
    """Other data from third parties that is not public (2.2.2)."""
    crawlers: str = ""
    """Names of the crawlers (2.3)."""
    crawling_purpose: str = ""
    """What they crawled for."""
    crawler_behaviour: str = ""
    """What they do about robots.txt, captchas, paywalls and terms of use."""
    crawling_period: str = ""
    """From when to when they crawled, as MM/YYYY."""
    crawled_content: str = ""
    """What kinds of pages and of websites they crawled."""
    has_user_data: bool | None = None
    """Whether data of the users of this model, or of other services of the provider, was trained on (2.4)."""
    user_data: str = ""
    """Which services, and what data."""
    synthetic_models: str = ""
    """Models whose output was trained on, beside those that the run names itself (2.5)."""
    synthetic_purpose: str = ""
    """What the synthetic data is needed for."""
    other_data: str = ""
    """Data of any other origin (2.6)."""
    code_of_practice: bool | None = None
    """Whether the provider has signed the EU's Code of Practice for general-purpose models (3.1)."""
    reservation_of_rights: str = ""
    """What is done to find and respect reservations of rights, before and while data is collected (3.1)."""
    illegal_content: str = ""
    """What is done to keep illegal content out, or to take it out (3.2)."""
    further: str = ""
    """Anything else about processing (3.3)."""
    has_protected_data: bool | None = None
    """Whether data is protected by copyright, trademark or patent; false means that all is in the public domain."""
    protected_data: str = ""
    """What of it is."""
    bought: bool | None = None
    """Whether data was bought or licensed (California)."""
    has_personal_information: bool | None = None
    """Whether data has personal information (California Civil Code 1798.140(v))."""
    has_consumer_information: bool | None = None
    """Whether data has aggregate consumer information (California Civil Code 1798.140(b))."""
    first_used: str = ""
    """When the data was first used in development, where that was before the first run."""
    funded_by: str = ""
    """Who paid for the data and the model."""
    consent: str = ""
    """Whether people knew of the collection and consented."""
    uses_to_avoid: str = ""
    """What the data should not be used for."""
    maintenance: str = ""
    """Who maintains the data, how errors are told, how to ask for removal."""
