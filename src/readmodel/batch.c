/* Rows that wait for the model's thread. */
#include "readmodel.h"
#include "hash.h"
#include <string.h>

#define PLACES 2048 /* of the table; of more than half as many runs in a batch, some are written more than once */

void rm_batch_free(ph_row *rows) {
    for (ph_row *next; rows; rows = next) {
        next = rows->next;
        ph_row_free(rows);
    }
}

static ph_row *reverse(ph_row *rows) {
    ph_row *reversed = NULL;
    for (ph_row *next; rows; rows = next) {
        next = rows->next;
        rows->next = reversed;
        reversed = rows;
    }
    return reversed;
}

static ph_row **place_of(ph_row **table, const char *key) {
    uint32_t h = ph_hash(key) % PLACES;
    while (table[h] && strcmp(table[h]->key, key) != 0)
        h = (h + 1) % PLACES;
    return &table[h];
}

/* What the newer row tells of the older one, which goes. */
static void take_over(ph_row *newer, const ph_row *older) {
    newer->has_begun = true;
    if (older->pending_at > 0)
        newer->pending_at = older->pending_at;
    else if (strcmp(older->text[PH_ROW_STATUS], "PENDING") == 0)
        newer->pending_at = older->updated_at;
}

ph_row *rm_batch_keep_newest(ph_row *rows) {
    ph_row *table[PLACES] = {0}, *kept = NULL;
    int n = 0;
    for (ph_row *row = reverse(rows), *next; row; row = next) { /* the newest first */
        next = row->next;
        ph_row **place = row->key ? place_of(table, row->key) : NULL;
        if (place && *place) {
            take_over(*place, row);
            ph_row_free(row);
            continue;
        }
        if (place && n < PLACES / 2) {
            *place = row;
            n++;
        }
        row->next = kept;
        kept = row;
    }
    return kept;
}
