/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sigbus: a client truncates its file while we look at it.
 * Not for deciding what becomes of the client: its connection is told.
 *
 * The handler runs on any thread, in the middle of anything that touches client
 * memory. It takes no lock: arenas are a list that only grows, a region
 * that a thread faults in stays published until that thread has finished with it.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "internal.h"

#define FAULT_PAGES 16 /* of a connection that are replaced one by one */

static struct fault_arena *arenas; /* grows at the front */
static pthread_mutex_t arenas_lock = PTHREAD_MUTEX_INITIALIZER; /* writers */
static struct sigaction before;

struct fault_arena *
fault_arena_get(void)
{
	struct fault_arena *fa;

	pthread_mutex_lock(&arenas_lock);
	for (fa = arenas; fa && fa->used; fa = fa->next)
		;
	if (!fa) {
		fa = calloc(1, sizeof(*fa));
		if (fa) {
			fa->next = arenas;
			/* pairs with the handler's load */
			__atomic_store_n(&arenas, fa, __ATOMIC_RELEASE);
		}
	}
	if (fa)
		fa->used = true;
	pthread_mutex_unlock(&arenas_lock);
	return fa;
}

void
fault_arena_publish(struct fault_arena *fa, uint64_t base, uint64_t len)
{
	__atomic_store_n(&fa->len, len, __ATOMIC_RELAXED);
	/* pairs with the handler's load */
	__atomic_store_n(&fa->base, base, __ATOMIC_RELEASE);
}

void
fault_arena_put(struct fault_arena *fa)
{
	__atomic_store_n(&fa->base, 0, __ATOMIC_RELEASE);
	fa->regions = NULL;
	fa->nregions = 0;
	fa->faulted = 0;
	fa->pages = 0;
	fa->notify = NULL;
	pthread_mutex_lock(&arenas_lock);
	fa->used = false;
	pthread_mutex_unlock(&arenas_lock);
}

static void
fault_arrived(struct reactor_msg *m)
{
	struct fault_arena *fa = container_of(m, struct fault_arena, msg);

	__atomic_store_n(&fa->msg_sent, false, __ATOMIC_RELAXED);
	fa->notify(fa);
}

void
fault_arena_resend(struct fault_arena *fa)
{
	if (__atomic_exchange_n(&fa->msg_sent, true, __ATOMIC_SEQ_CST))
		return;
	fa->msg.fn = fault_arrived;
	reactor_send(fa->home, &fa->msg);
}

/* Any thread, the signal handler too: reactor_send takes no lock. */
void
fault_arena_mark(struct fault_arena *fa)
{
	if (__atomic_exchange_n(&fa->faulted, 1, __ATOMIC_SEQ_CST))
		return;
	fault_arena_resend(fa);
}

/* The region, or at least the page. */
static void
region_around(const struct fault_arena *fa, uint64_t addr, uint64_t *at,
	      uint64_t *len)
{
	const struct fault_region *r = fa->regions;
	uint64_t a, n;
	uint32_t i;

	*at = align_down(addr, PAGE);
	*len = PAGE;
	for (i = 0; i < fa->nregions; i++) {
		a = __atomic_load_n(&r[i].addr, __ATOMIC_ACQUIRE);
		n = __atomic_load_n(&r[i].len, __ATOMIC_ACQUIRE);
		/* The one that we look for does not change; others may. */
		if (!a || addr - a >= n ||
		    a != __atomic_load_n(&r[i].addr, __ATOMIC_RELAXED))
			continue;
		*at = a;
		*len = n;
		return;
	}
}

static bool
put_zeros(uint64_t at, uint64_t len)
{
	void *p = mmap((void *)(uintptr_t)at, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
		       -1, 0);

	if (p == MAP_FAILED)
		return false;
	(void)madvise(p, len, MADV_DONTDUMP);
	(void)madvise(p, len, MADV_DONTFORK);
	return true;
}

static bool
fault_handle(uint64_t addr)
{
	sigjmp_buf *escape = util_fault_escape;
	struct fault_arena *fa = __atomic_load_n(&arenas, __ATOMIC_ACQUIRE);
	uint64_t base, at, len;

	for (; fa; fa = fa->next) {
		base = __atomic_load_n(&fa->base, __ATOMIC_ACQUIRE);
		if (base &&
		    addr - base < __atomic_load_n(&fa->len, __ATOMIC_RELAXED))
			break;
	}
	if (!fa)
		return false;
	/* The mark comes first: who sees the zeros sees it too. */
	fault_arena_mark(fa);
	/* Who can do without the rest shall not see zeros, nor shall others at the same time. */
	if (escape) {
		util_fault_escape = NULL;
		siglongjmp(*escape, 1);
	}
	/*
	 * Only the page at first: what the kernel does with the others fails as it should, and no zeros of ours reach a disk or
	 * take memory. But a page costs a signal and two VMAs, of which the process has a limited number: a client whose memory is
	 * touched on and on, until it is thrown out, gets the rest at once. So do huge pages, which cannot be replaced in part.
	 */
	if (__atomic_fetch_add(&fa->pages, 1, __ATOMIC_RELAXED) < FAULT_PAGES &&
	    put_zeros(align_down(addr, PAGE), PAGE))
		return true;
	region_around(fa, addr, &at, &len);
	return put_zeros(at, len);
}

static void
on_sigbus(int sig, siginfo_t *info, void *uc)
{
	int saved = errno;

	(void)uc;
	/* si_code <= 0: somebody sent it, si_addr means nothing. */
	if (info->si_code > 0 && fault_handle((uintptr_t)info->si_addr)) {
		errno = saved;
		return;
	}
	/* What would have happened without us: the access faults again. */
	sigaction(SIGBUS, &before, NULL);
	if (info->si_code <= 0)
		raise(sig);
	errno = saved;
}

static int init_result;

static void
sigbus_install(void)
{
	struct sigaction sa = { .sa_sigaction = on_sigbus,
				/* NODEFER: siglongjmp leaves no mask behind */
				.sa_flags = SA_SIGINFO | SA_ONSTACK |
					    SA_NODEFER };

	sigemptyset(&sa.sa_mask);
	init_result = sigaction(SIGBUS, &sa, &before) ? -errno : 0;
}

int
ioas_sigbus_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, sigbus_install);
	return init_result;
}
