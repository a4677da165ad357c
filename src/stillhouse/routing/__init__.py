"""Who answers: the cascade and the shadow coin."""
