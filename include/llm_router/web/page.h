/* Pages that bring everything along: what their Content-Security-Policy is. */
#ifndef LLM_ROUTER_WEB_PAGE_H
#define LLM_ROUTER_WEB_PAGE_H

#include "llm_router/base/buf.h"

/* Appends the policy under which `page` works and nothing else does: its own
 * <script> and <style> elements (written so, without attributes) by their
 * SHA-256, images that it holds itself, and requests to its own server. Text
 * that finds its way into the page as markup is not run. */
void page_policy(struct slice page, struct buf *policy);

#endif
