/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Pace: when interrupts of a completion queue are due, and what was learned of its host (pace.c).
 * Included by internal.h.
 */
#ifndef BELFRY_NVME_PACE_H
#define BELFRY_NVME_PACE_H

struct nvme_core;
struct nvme_cq;

struct nvme_pace {
	uint64_t raised_at; /* the last interrupt that it had to answer */
	uint64_t began;	    /* to owe one */
	uint32_t out,
		out_first; /* commands outstanding at the last look, and then */
	uint32_t head;	   /* at the last look */
	uint32_t answer_ns; /* from an interrupt until the head has moved */
	uint16_t skip;	    /* interrupts that are not held back */
	uint16_t vain;	    /* the next skip */
	uint16_t need;	    /* credits for a larger batch */
	uint16_t credit;
	/* For pace_nap(), since rate_at: */
	uint64_t rate_at;
	uint32_t entries;
	uint16_t raises, dry; /* dry: the host had sent all that it has */
	uint32_t most,
		peak; /* commands outstanding: since the last interrupt, lately */
	uint32_t nap_ns;
	uint8_t batch; /* entries for one interrupt */
	bool answered; /* the host has taken what it was told of */
	bool held;     /* the one that is owed was held back */
	bool waited;   /* seen not to have answered yet */
};

void cq_owe(struct nvme_cq *cq); /* an interrupt (poll.c) */
/* Of a queue that owes one. */
enum pace {
	PACE_NOW,
	PACE_LATER, /* look again in the next round */
	PACE_NONE   /* the host has taken all */
};
void pace_init(struct nvme_cq *cq);
void pace_begin(struct nvme_cq *cq, uint64_t now); /* it owes one from now on */
enum pace pace_look(struct nvme_cq *cq, uint64_t now);
void pace_fetched(struct nvme_cq *cq); /* commands, just now */
/* What @cq owed is settled, still counted in unsignalled: may the reactor nap, and for how long? */
void pace_nap(struct nvme_core *core, struct nvme_cq *cq, uint64_t now);
#define HOLD_MAX_NS \
	200000u /* none is held back for longer, but as the host asked (Feature 08h) */

#endif
