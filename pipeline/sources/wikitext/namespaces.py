"""What the wikis call their files, categories, templates and redirects; their switches; the codes of their languages.

One line a wiki: its code, then the names of files and media, of categories, of templates, and the words of a redirect
(after `#`), in lower case. The English ones are understood on every wiki and left out.

Facts from dbpedia/extraction-framework e3dfe8b (Namespaces.scala and Redirect.scala, which it makes of the siteinfo of
each Wikipedia) and from wikimedia/mediawiki-services-parsoid 0cd1430 (baseconfig: switches, codes of languages).
"""
# ruff: noqa: E501, SIM905

from __future__ import annotations

__all__ = ["LANGUAGE_CODES", "NAMES", "SWITCHES"]

NAMES = """
ab|амедиа;афаил;изображение;медиа;файл|акатегориа;категория|ашаблон;шаблон|перенапр;перенаправление
ace|alat;berkas;beureukaih;gambar|kategori;kawan|pola;seunaleuëk;templat|alih;pupinah
ady|медиа|||
af|beeld;lêer|kategorie|sjabloon|aanstuur
als|bild;datei;medium|kategorie|vorlage|weiterleitung
alt|изображение;медиа;файл|категория|ӱлекер|перенапр;перенаправление
am|ስዕል;ፋይል|መደብ|መለጠፊያ;መልጠፊያ|
ami|faylo;mitiya;图像;图片;圖像;圖片;媒体;媒体文件;媒体档案;媒體;媒體文件;媒體檔案;文件;档案;檔案|kasasiwasiw;分类;分類|masalipa;样板;模板;樣板|重定向;重新導向
an|imachen;imagen|categoría|plantilla|endrecera;redireccion;redirección;reendrecera
ang|biliþ;ymele|flocc|bysen|
anp|फाईल;मीडिया|श्रेणी|साँचा|अनुप्रेषित;पुनर्प्रेषित
ar|صورة;ملف;ميديا;وسائط|تصنيف|قالب|تحويل
arc|ܠܦܦܐ;ܡܝܕܝܐ|ܣܕܪܐ|ܩܠܒܐ|ܨܘܝܒܐ
ary|صورة;فيشي;ملف;ميديا;وسائط|تصنيف|قالب;موضيل|تحويل
arz|صورة;ملف;ميديا;وسائط|تصنيف|قالب|تحويل
as|चित्र;চিত্র;চিত্ৰ;মাধ্যম|cat;श्रेणी;শ্রেণী;শ্ৰেণী|साँचा;সাঁচ|
ast|archivu;ficheru;imagen;imaxe;imaxen;medios|categoría|plantilla;plantía|redireccion;redirección
atj|natisinahikaniwoc;tipatcimoctakewin|tipanictawin|tapapitcikesinihikan;tipapitcikesinihikan|redirection
av|изображение;медиа;файл|категория|халип|перенапр;перенаправление
avk|ewava;imagen;iyeltak;kanaca;mamind;изображение|loma|teza|redireccion;redirección;redirection;перенапр;перенаправление
awa|फाइल;मीडिया|श्रेणी|खाँचा|अनुप्रेषित;पुनर्प्रेषित
ay|archivo;imagen;medio|categoría|plantilla|redireccion;redirección
az|fayl;fl;mediya;şəkil|kat;kateqoriya|ş;şablon|i̇sti̇qamətləndi̇r;i̇sti̇qamətləndi̇rmə;yönləndi̇rmə
azb|تصویر;رسانه;رسانه‌ای;فایل;مدیا|بؤلمه|شابلون|تغییر مسیر;تغییرمسیر
ba|изображение;медиа;рәсем;файл|категория;төркөм|ҡалып|перенапр;перенаправление
ban|berkas;gambar;média|kategori|mal|alih
bar|bild;datei;medium|kategorie|vorlage;vorlog|weiterleitung
bat-smg|abruozdielis;medėjė;vaizdas|kategorija;kateguorėjė|šablonas;šabluons|peradresavimas
bbc|ugasan|horong|templat|
bcl|ladawan;medio|kategorya|plantilya|
be|выява;мультымедыя;файл|катэгорыя|шаблон|
bew|gambar;gepokan;wasilah|bangsaan|sablonan|alih
bg|картинка;медия;файл|категория|шаблон|виж;пренасочване
bh|चित्र;मीडिया|श्रेणी|टेम्पलेट|
bjn|barakas;berkas;gambar|kategori;tumbung|citakan;templat|alih
blk|ဖုဲင်;မီဒီယာ|ကဏ္ဍ|တမ်းပလေက်|
bm|fichier;média|catégorie|modèle|redirection
bn|চিত্র;মিডিয়া|বিষয়শ্রেণী|টেমপ্লেট|পুনঃনির্দেশ;পুনঃর্নির্দেশ;পুননির্দেশ;পুনর্নির্দেশ
bpy|ছবি;মিডিয়া|থাক|মডেল|পুনঃনির্দেশ;পুনঃর্নির্দেশ;পুননির্দেশ;পুনর্নির্দেশ
br|restr;skeudenn|rummad|patrom|adkas
bs|datoteka;medija;mediji;slika|kategorija|šablon|preusmjeri
bug|berkas;gambar|kategori|templat|alih
bxr|изображение;меди;файл|категори;категория|загбар|перенапр;перенаправление
ca|fitxer;imatge|categoria|plantilla|redireccio;redireccion;redirecció
cdo|图像;图片;圖像;圖片;媒体;媒体文件;媒体档案;媒體;媒體文件;媒體檔案;文件;档案;檔案|分类;分類|样板;模板;樣板|重定向;重新導向
ce|изображение;медиа;медйа;сурт;файл;хlум|кадегар;категори;тоба|дакъан;кеп;куцкеп|хьажайо;дӏасахьажор;перенапр;перенаправление
ceb|imahen;medya;payl|kategoriya|plantilya|
ch|litratu|katigoria||
ckb|میدیا;پەڕگە|پ;پۆل|t;د;داڕێژە;قاڵب|ڕەوانەکەر
co|immagine|categoria||rimando;rinvia;rinvio
commons||cat||
crh|fayl;resim;медиа;ресим;файл|kategoriya;категория|şablon;шаблон|
cs|média;obrázok;soubor|kategorie|šablona|presmeruj;přesměruj
csb|grafika;òbrôzk|kategòrëjô|szablóna|patrz;przekieruj;tam
cu|ви́дъ;видъ;дѣло;срѣдьства|категория;катигорїꙗ;катигорї|образьць;обраꙁьць;шаблон|прѣнаправлєниѥ
cv|изображение;медиа;ӳкерчĕк|категори|шаблон|перенапр;перенаправление
cy|delwedd|categori|nodyn|ail-cyfeirio;ailgyfeirio
da|billede;fil|kategori|skabelon|
dag|lahabali kɔligu;miidiya|pubu|tɛmplet|
de|bild;datei;medium|kategorie|vorlage|weiterleitung
dga|duoro bimbu zie;duoro kɔre|gbuli|tɛmpileti|
din|apamduööt;ciɛl|bekätakthook|macuëc|
diq|dosya;medya|kategori;kategoriye|şablon|hetenayiş
dsb|bild;dataja;medija;wobraz|kategorija|pśedłoga|weiterleitung
dtp|fail;imej|kategori|templat|lencong
dty|चित्र;मिडिया|श्रेणी|ढाँचा|अनुप्रेषण;अनुप्रेषित;पुनर्प्रेषित
dv|މީޑިއާ;ފައިލު;ފައިލް|ޤިސްމު|ފަންވަތް|
el|αρχείο;εικόνα;μέσο;μέσον|κατηγορία|πρότυπο|ανακατευθυνση
eml|immagine|categoria||rimando;rinvia;rinvio
en|||tm|
eo|aŭdvidaĵo;dosiero|kategorio|ŝablono|al;alidirekti;alidirektu
es|archivo;imagen;medio|cat;categoría|plantilla|redireccion;redirección
et|fail;meedia;pilt|kategooria|mall|suuna
eu|fitxategi;irudi|kategoria|txantiloi|birzuzendu
ext|archivu;imagen;mediu|categoria;categoría|prantilla|redireccion;redirección
fa|تصویر;رسانه;رسانه‌ای;مدیا;پرونده|رده|الگو|تغییر مسیر;تغییرمسیر
fat|fael|nkyekyεmu|nhwɛdo|
ff|fichier;média|catégorie|modèle|
fi|kuva;tiedosto|luokka|malline|ohjaus;uudelleenohjaus
fo|miðil;mynd|bólkur|fyrimynd|
fon|wékpo;yɛwliɖonuji|akpaxwé|kpɔnd'ewu bo blo|redirection
fr|fichier;média|catégorie|modèle|redirection
frp|fichiér;mèdia;émâge|catègorie|modèlo|redirection;redirèccion
frr|bild;datei;medium|kategorie|vorlage|weiterleitung
fur|figure;immagine|categorie|model|rimando;rinvia;rinvio
fy|ofbyld|kategory|berjocht|
ga|meán;íomhá|catagóir;rang|múnla;teimpléad|athsheoladh
gag|dosya;dosye;mediya;medya;resim|kategori;kategoriya|şablon|yönlendir;yönlendirme;yönlendi̇r;yönlendi̇rme;yönnendi̇r;yönnendi̇rmä;yönnendi̇rmäkler
gan|图像;图片;圖像;圖片;媒体;媒体文件;媒体档案;媒體;媒體文件;媒體檔案;文件;文檔;档案;檔案|cat;分类;分類|t;样板;模板;樣板|重定向;重新導向
gcr|fiché;médja|katégori|modèl|redirection
gd|faidhle;meadhan|roinn-seòrsa|teamplaid|
gl|arquivo;ficheiro;imagem;imaxe|categoría|modelo|redirección;redirecionamento
glk|تصویر;رسانه;رسانه‌ای;فاىل;مديا;پرونده|جرگه;رده|الگو;قالب|تغییر مسیر;تغییرمسیر
gn|imagen;medio;ta'ãnga|ñemohenda|tembiecharã|redireccion;redirección
gom|फायल;माध्यम;मिडिया|वर्ग;श्रेणी|प्रारूप;सांचो|
gor|berkas;gambar|dalala|templat|alih
got|𐍆𐌴𐌹𐌻𐌰|𐌷𐌰𐌽𐍃𐌰|𐍆𐌰𐌿𐍂𐌰𐌼𐌴𐌻𐌴𐌹𐌽𐍃|
gu|ચિત્ર;દ્રશ્ય-શ્રાવ્ય (મિડિયા)|cat;શ્રે;શ્રેણી|ઢાંચો|
guc|anaajaalaa;ayaakuwapülee;imagen|akotchajülee sünülia|anouktia sukua'ipa|redireccion;redirección
gur|faali;miidiya|buuri buuri|tɛmpileti|
guw|wepo|adà|ohia|
gv|coadan;meanyn|ronney|clowan|
ha|fayil;midiya|rukuni|samfuri|
hak|图像;图片;圖像;圖片;媒体;媒体文件;媒体档案;媒體;媒體文件;媒體檔案;文件;档案;檔案|分类;分類|样板;模板;樣板|重定向;重新導向
haw|kiʻi;pāpaho;waihona|māhele|anakuhi|kiahou
he|מדיה;קו;קובץ;תמונה|קט;קטגוריה|תב;תבנית|הפניה
hi|चित्र;मीडिया|श्र;श्रेणी|t;सा;साँचा|अनुप्रेषित;पुनर्प्रेषित
hif|saadhan|vibhag||
hr|datoteka;dt;mediji;slika|ct;kategorija;kt|predložak|preusmjeri
hsb|bild;dataja;wobraz|kategorija|předłoha|weiterleitung
ht|fichye;imaj;medya|kategori|modèl|redirection
hu|fájl;kép;média|kategória|sablon|átirányítás
hy|մեդիա;պատկեր|կատեգորիա|կաղապար|վերահղում
hyw|մեդիա;պատկեր|ստորոգութիւն|կաղապար|վերահղում;վերայղում
ia|imagine;multimedia|categoria|patrono|
id|berkas;gambar|kategori|templat|alih
ie||categorie|avise|
ig|midia;nká;usòrò;ákwúkwó orünotu|ébéonọr;òtù|àtụ|kúfù
igl|fáílú;áméwn igò|gbúgbe|éwn malábó|
ii|图像;图片;圖像;圖片;媒体;媒体文件;媒体档案;媒體;媒體文件;媒體檔案;文件;档案;檔案|分类;分類|样板;模板;樣板|重定向;重新導向
ilo|midia;papeles|kategoria|plantilia|
inh|изображение;медиа;файл|оагӏат|ло|ластар;перенапр;перенаправление
io|arkivo;imajo|kategorio|modelo;shablono|al;alidirekti;alidirektu
is|miðill;mynd|flokkur|snið|tilvísun
it|immagine|cat;categoria|t|rimando;rinvia;rinvio
ja|ファイル;メディア;画像|カテゴリ|テンプレート|リダイレクト;転送
jbo|datnyvei;velsku|klesi|termo'a|
jv|barkas;gambar;medhia;médhia|kategori|cithakan|alih
ka|მედია;სურათი;ფაილი|კატეგორია|თარგი|გადამისამართება
kaa|fayl;su'wret;swret;taspa;сурет;таспа;تاسپا;سۋرەت|kategoriya;sanat;санат;سانات|shablon;úlgi;ülgi;үлгі;ٴۇلگٴى;ٷلگٸ|aýdaw;айдау
kab|tugna|taggayt|talɣa;talγa|redirection
kbd|медиа;файл|категориэ;категория|шаблон|
kbp|fichier;média|catégorie|modèle|redirection
kcg|fail|sa|ta‌̱mpi‌̱let|
kg|fisye|kalasi||
kk|swret;taspa;сурет;таспа;تاسپا;سۋرەت|sanat;санат;سانات|ülgi;үлгі;ٴۇلگٴى;ٷلگٸ|айдау
kl|billede;fiileq;fil|kategori;sumut atassuseq|ilisserut;skabelon|
km|មីឌា;មេឌា;រូបភាព;ឯកសារ|ចំណាត់ក្រុម;ចំណាត់ថ្នាក់ក្រុម;ចំនាត់ថ្នាក់ក្រុម|ទំព័រគំរូ|បញ្ជូនបន្ត;ប្ដូរចំណងជើង;ប្ដូរទីតាំង;ប្ដូរទីតាំងទៅ;ប្តូរទីតាំង;ប្តូរទីតាំងទៅ
kn|ಚಿತ್ರ;ಮೀಡಿಯ|ವರ್ಗ|ಟೆಂಪ್ಲೇಟು|
ko|그림;미디어;파일|분류|틀|넘겨주기
koi|изображение;медиа;файл|категория|шаблон|перенапр;перенаправление
krc|изображение;медиа;файл|категория|шаблон|джибериу;перенапр;перенаправление;редирект
ks|فَیِل;میڈیا|زٲژ|فرما|
ksh|beld;belld;bild;datei;medie;medium;meedije;meedijum|kategorie;katejori;kattejori;saachjrop;saachjropp;saachjrupp;sachjrop|schablon|leidt öm op;weiterleitung;ömleide;ömleide op;ömleidung
ku|medya;wêne;میدیا;پەڕگە|kategorî;پۆل|şablon;داڕێژە|beralîkirin
kv|изображение;медиа;файл|категория|шаблон|перенапр;перенаправление
kw|restren|class;klass|scantlyn;skantlyn|daskedyans
ky|медиа;файл|категория|калып|
la|fasciculus;imago|categoria|formula|
lad|archivo;dossia;dosya;imagen;meddia;medya|categoría;kateggoría;katēggoría|plantilla;xabblón;xablón|dirección;dirijar;redireccion;redirección
lb|bild;fichier|kategorie|schabloun|viruleedung;weiterleitung
lbe|изображение;медиа;сурат|категория|шаблон|перенапр;перенаправление
lez|mediya;şəkil;изображение;медиа;файл|категория|шаблон|i̇sti̇qamətləndi̇r;i̇sti̇qamətləndi̇rmə;yönləndi̇rmə;перенапр;перенаправление
lfn|fix|categoria|model|
li|aafbeilding;afbeelding;plaetje|categorie;kategorie|sjabloon|doorverwijzing
lij|immaggine;immagine|categoria;categorîa||rimando;rinvia;rinvio
lld|immagine|categoria||renviament;rimando;rinvia;rinvio
lmo|archivi;immagine;imàjine|categoria;categuria|model;modell;modèl;mudel|rimando;rinvia;rinvio;varda
ln|fichier;média|catégorie|modèle|redirection
lo|ສື່;ສື່ອ;ຮູບ|ໝວດ|ແມ່ແບບ|
lrc|أسگ;تصویر;جانیا;رسانه;رسانه‌ای;ڤارئسگأر|دأسە|چوٙأ|تغییر مسیر;تغییرمسیر
lt|medija;vaizdas|kategorija|šablonas|peradresavimas
ltg|fails;medeja|kategoreja|taiss|
lv|attēls|kategorija|veidne|
mad|bhengkek;gambar;mèḍia|bhângsa|cèṭa'an|alih
mai|फाइल;मेडिया|ca;श्रेणी|आ;आकृति|अनुप्रेषित;पुनर्प्रेषित
mdf|изображение;медиа;няйф|категорие;категория|шаблон|перенапр;перенаправление
mg|média;rakitra;sary|catégorie;sokajy|endrika;modèle|fihodinana;redirection
mhr|изображение;медиа;файл|категорий;категория|кышкар;шаблон;ямдылык|перенапр;перенаправление
min|berkas;gambar|kategori|templat|aliah;alih
mk|медиум;медија;податотека;слика|категорија|предлошка;шаблон|види;пренасочување
ml|ചി;ചിത്രം;പ്ര;പ്രമാണം;മീഡിയ|വ;വി;വിഭാഗം;വർഗ്ഗം|ഫ;ഫലകം|തിരിച്ചുവിടുക;തിരിച്ചുവിടൽ
mn|зураг;медиа;файл|ангилал|загвар|чиглүүлэг
mni|ꯃꯦꯗꯤꯌꯥ;ꯐꯥꯏꯜ|ꯃꯆꯥꯈꯥꯏꯕ|ꯇꯦꯝꯄ꯭ꯂꯦꯠ|
mnw|မဳဒဳယာ;ဝှာင်|ကဏ္ဍ|ထာမ်ပလိက်|
mr|चित्र;मिडिया|वर्ग|साचा|पुनर्निर्देशन;पुर्ननिर्देशन
mrj|изображение;медиа;файл|категори;категория|шаблон;ямдылык|перенапр;перенаправление
ms|fail;imej|kategori|templat|lencong
mt|medja;midja;stampa|kategorija|mudell|rindirizza
mwl|arquivo;fexeiro;ficheiro;imagem;multimédia|catadorie;categoria|modelo;predefinição|ancaminar;redirecionamento
my|ဖိုင်;မီဒီယာ|ကဏ္ဍ|တမ်းပလိတ်|
myv|артовкс;изображение;медия|категория|лопапарцун;шаблон|перенапр;перенаправление
mzn|تصویر;رسانه;رسانه‌ای;مدیا;مه‌دیا;پرونده|رج;رده|الگو;شابلون|بور;تغییر مسیر;تغییرمسیر
nah|imagen;mēdiatl;īxiptli|categoría;neneuhcāyōtl|nemachiyōtīlli;plantilla|redireccion;redirección
nap|fiùra;immagine|categoria;categurìa|modello|rimando;rinvia;rinvio
nds|bild;datei|kategorie|vorlage;vörlaag|weiterleitung;wiederleiden
ne|चित्र;मीडिया|श्रेणी|t;ढाँ;ढाँचा|अनुप्रेषण;अनुप्रेषित;पुनर्प्रेषित
new|किपा;माध्यम|पुचः||
nia|berkas;gambar|kategori|templat|alih
nl|afbeelding;bestand|categorie|sjabloon|doorverwijzing
nn|bilde;fil;filpeikar|kategori|mal|omdiriger;omdirigering
no|bilde;fil;medium|kategori|mal|omdiriger;omdirigering
nqo|ߞߐߕߐ߮;ߟߊߛߋߢߊߥߙߍ|ߦߌߟߡߊ|ߞߙߊߞߏ|
nrm|fichier;média|catégorie|modèle|redirection
nso|seswantšho|setensele||
nv|eʼelyaaígíí|tʼááłáhági átʼéego|bee álnééhí|
oc|fichièr;imatge;mèdia|categoria|modèl|redireccio;redireccion;redirecció;redirection
olo|failu;kuva;medii|kategourii|šablonu|ohjaus;uudelleenohjaus
or|ଫାଇଲ;ମାଧ୍ୟମ|ବିଭାଗ;ଶ୍ରେଣୀ|ଛାଞ୍ଚ;ଟେଁପଲେଟ;ଟେମ୍ପଲେଟ|ଲେଉଟାଣି
os|изображение;медиа;ныв;файл|категори|хуызæг;шаблон|æрвитæн;æрвыст;перенапр;перенаправление;рарвыст
pa|ਤਸਵੀਰ;ਮੀਡੀਆ|ਸ਼੍ਰੇਣੀ|ਨਮੂਨਾ;ਫਰਮਾ|ਰੀਡਿਰੈਕਟ
pcd|fichier;média|catégorie|modèle|redirection
pcm||katigori|templet|
pdc|bild;datei;feil;medium|abdeeling;kategorie|moddel;vorlage|weiterleitung
pfl|bild;dadai;datei;medium|kadegorie;kategorie;sachgrubb|vorlach;vorlage|weiterleitung
pi|पटिमा;मीडिया|विभाग|पटिरूप|
pl|grafika;plik|kategoria|szablon|patrz;przekieruj;tam
pms|figura;immagine|categorìa|stamp|rimando;rinvia;rinvio
pnb|تصویر;فائل;میڈیا|گٹھ|سانچہ|مڑجوڑ
pnt|αρχείον;εικόνα;εικόναν;μέσον|κατηγορίαν|πρότυπον|ανακατευθυνση
ps|انځور;دوتنه;رسنۍ|وېشنيزه|کينډۍ|
pt|arquivo;ficheiro;imagem;multimédia|categoria|predefinição|redirecionamento
pwn|mitiya;sineqetj a vecik;图像;图片;圖像;圖片;媒体;媒体文件;媒体档案;媒體;媒體文件;媒體檔案;文件;档案;檔案|pinapapilipiliqan;分类;分類|kakivauvaljan;样板;模板;樣板|重定向;重新導向
qu|imagen;midya;rikcha|katiguriya|plantilla|pusapuna;redireccion;redirección
rm|bild;datoteca;multimedia|categoria|model|renviament;weiterleitung
rmy|chitro;fişier;imagine;mediya|shopni|sikavno|redirecteaza
rn|dosiye|umuce|ingero|
ro|fişier;fișier;imagine|categorie|format|redirecteaza
ru|изображение;медиа;файл|к;категория|t;ш;шаблон|перенапр;перенаправление
rue|зображення;изображение;медиа;медіа;файл|категория;катеґорія|шаблона|перенапр;перенаправление;перенаправлення
rw|dosiye;itangazamakuru|ikiciro|inyandikorugero|
sa|चित्रं;चित्रम्;माध्यम;माध्यमम्;सञ्चिका|वर्गः|फलकम्;बिंबधर|अनुप्रेषित;अनुप्रेषितम्;पुनर्निदेशन;पुनर्निर्दिष्टम्;पुनर्प्रेषित
sah|билэ;изображение;миэдьийэ;ойуу|категория|халыып|перенапр;перенаправление;утаарыы;утр
sat|ᱢᱤᱰᱤᱭᱟ;ᱨᱮᱫ|ᱛᱷᱚᱠ|ᱪᱷᱟᱸᱪ|
sc|immàgini|categoria||
scn|immagine;mmàggini;mèdia|catigurìa||rimando;rinvia;rinvio
sd|ذريعات;عڪس;فائل|زمرو|سانچو;سنچو|چوريو
se|bilde;fiila;kuva|kategoriija|málle|ohjaus;omdirigering;ođđasitstivren;stivren;uudelleenohjaus
sg|fichier;média|catégorie|modèle|redirection
sh|datoteka;dt;fotografija;medija;mediji;slika;датотека;дт;медиј|kat;kategorija;kt;кат;категорија;кт|predložak;š;šablon;т;ш;шаблон|preusmeri;preusmjeri
shi|afaylu;midya|taggayt|talɣa|redirection
shn|သိုဝ်ႇၶၢဝ်ႇ;ၾၢႆႇ|ပိူင်ထၢၼ်ႈ|ထႅမ်းပလဵတ်ႉ;ထႅမ်းပလဵၵ်ႉ|
si|ගොනුව;මාධ්‍යය;රූපය|ප්‍රවර්ගය|සැකිල්ල|යළියොමුව
sk|médiá;obrázok;súbor|kategória|šablóna|presmeruj;přesměruj
skr|فائل;میڈیا|ونکی|سانچہ|
sl|datoteka;slika|kategorija|predloga|preusmeritev
smn|kuva;tiätuvuárkká|luokka|myenster|ohjaus;uudelleenohjaus
sq|figura;skeda|kategori;kategoria|stampa|ridrejto
sr|datoteka;fotografija;medij;medija;slika;датотека;медиј;медија;слика;фотографија|kategorija;категорија|predložak;šablon;предложак;шаблон|preusmeri;preusmjeri;преусмери;преусмјери
srn|afbeelding;gefre|categorie;guru|ankra;sjabloon|doorverwijzing;stir
stq|bielde;bild|kategorie|foarloage|weiterleitung
su|gambar;média|kategori|citakan|alih
sv|bild;fil|kategori|mall|omdirigering
sw|faili;picha|jamii|kigezo|
szl|grafika;plik|kategoria;kategoryjo|muster;szablon|patrz;przekieruj;tam
szy|myiti;tangan;图像;图片;圖像;圖片;媒体;媒体文件;媒体档案;媒體;媒體文件;媒體檔案;文件;档案;檔案|kakuniza;分类;分類|taazihan mitudung;样板;模板;樣板|重定向;重新導向
ta|ஊடகம்;படிமம்|பகுப்பு|வார்ப்புரு|வழிமாற்று
tay|biru' na zayzyuwaw;biru’ na zayzyuwaw;图像;图片;圖像;圖片;媒体;媒体文件;媒体档案;媒體;媒體文件;媒體檔案;文件;档案;檔案|zyuwaw na;分类;分類|panmwo;样板;模板;樣板|重定向;重新導向
tcy|ಫೈಲ್;ಮಾದ್ಯಮೊ|ವರ್ಗೊ|ಟೆಂಪ್ಲೇಟ್|
te|దస్త్రం;ఫైలు;బొమ్మ;మీడియా|వర్గం|మూస|దారిమార్పు
tet|arquivo;imagem;imajen|kategoria;kategoría||redirecionamento
tg|акс;медиа|гурӯҳ|шаблон|равона
th|ภาพ;สื่อ;ไฟล์|หมวดหมู่|แม่แบบ|เปลี่ยนทาง
ti|ሜድያ;ፋይል|መደብ|ሞደል|
tk|faýl|kategoriýa|şablon|
tl|midya;talaksan|kategorya;kaurian|padron;suleras|
tly|fajl;medja|tispir|numunə|tojədən i̇sti̇ğomət doy
tn|pego;setshwantsho|karolo|tempolete|
tpi|fail|grup|templet|
tr|dosya;medya;ortam;resim|kat;kategori|ş;şablon|yönlendir;yönlendirme;yönlendi̇r;yönlendi̇rme
trv|meyti;patas bntasan;图像;图片;圖像;圖片;媒体;媒体文件;媒体档案;媒體;媒體文件;媒體檔案;文件;档案;檔案|snakun;分类;分類|snluan qcinuh;样板;模板;樣板|重定向;重新導向
tt|räsem;изображение;медиа;рәсем;файл|törkem;категория;төркем|ürnäk;калып;шаблон;үрнәк|перенапр;перенаправление;юнәлтү
tw||nkyekyεmu|nhwɛsoɔ|
ty|fichier;média|catégorie|modèle|redirection
tyv|изображение;медиа;файл|аңгылал;категория|майык|көжүрүлге;перенапр;перенаправление;шигледир
udm|изображение;медиа;суред;файл|категория|шаблон|перенапр;перенаправление
ug|ھۆججەت;ۋاسىتە|تۈر|قېلىپ|
uk|зображення;изображение;медиа;медіа;файл|категория;категорія|шаблон|перенапр;перенаправление;перенаправлення
ur|تصویر;زریعہ;فائل;ملف;میڈیا;وسیط|زمرہ|سانچہ|رجوع مکرر
uz|fayl;mediya;tasvir|kategoriya;turkum|andoza;shablon|yonaltirish;yoʻnaltirish
vec|immagine;imàjine;mèdia|categoria|modeło;modèl|rimando;rinvia;rinvio;varda
vep|fail;pilt|kategorii|šablon|suuna
vi|hình;phương tiện;tập tin|thể loại|bản mẫu;tiêu bản|đổi
vls|afbeelding;ofbeeldienge|categorie|patrôon|doorverwijzing
vo|magod;nünamakanäd;ragiv|klad|samafomot|
wa|imådje|categoreye|modele|redirection
war|fayl;medya;paypay|kaarangay|batakan|
wo|dencukaay;xibaarukaay|catégorie;wàll|modèle;royuwaay|redirection
wuu|图像;图片;圖像;圖片;媒体;媒体文件;媒体档案;媒體;媒體文件;媒體檔案;文件;档案;檔案|分类;分類|t;样板;模板;樣板|重定向;重新導向
xal|аһар;боомг;зург;изображение|янз;әәшл|зура;кевләр|перенапр;перенаправление
xmf|მედია;სურათი;ფაილი|კატეგორია|თარგი|გადამისამართება
yi|בילד;טעקע;מעדיע;תמונה|קאַטעגאָריע;קאטעגאריע|מוסטער|הפניה;ווייטערפירן
yo|amóhùnmáwòrán;fáìlì;àwòrán|ẹ̀ka|àdàkọ|
za|图像;图片;圖像;圖片;媒体;媒体文件;媒体档案;媒體;媒體文件;媒體檔案;文件;档案;檔案|分类;分類|样板;模板;樣板|重定向;重新導向
zea|afbeelding;plaetje|categorie|sjabloon|doorverwijzing
zgh|ⴰⴼⴰⵢⵍⵓ;ⵎⵉⴷⵢⴰ|ⴰⵙⵎⵉⵍ|ⴰⵍⴱⵓⴹ|
zh|图像;图片;圖像;圖片;媒体;媒体文件;媒体档案;媒體;媒體文件;媒體檔案;文件;档案;檔案|cat;分类;分類|t;样板;模板;樣板|重定向;重新導向
zh-min-nan|mûi-thé;tóng-àn;图像;图片;圖像;圖片;媒体;媒体文件;媒体档案;媒體;媒體文件;媒體檔案;文件;档案;檔案|lūi-pia̍t;分类;分類|pang-bô͘;样板;模板;樣板|重定向;重新導向
zh-yue|图;图像;圖;圖像;媒体;媒體;文件;档;档案;檔;檔案|分类;分類;类;類|t;模|
"""

SWITCHES = frozenset(
    """
    AABAW ABSCHNITTE_NICHT_BEARBEITEN ARCHIVEDTALK AUCUNEGALERIE AUCUNETDM AUCUNINDEX AUCUNLIENNOUVELLESECTION
    AUCUNSOMMAIRE BEZCC BEZGALERIE BEZGALERIJE BEZINDEKSA BEZINDEKSIRANJA BEZIZMENA BEZIZMJENA BEZKN
    BEZKONVERZENADPISU BEZKONVERZEOBSAHU BEZKS BEZLINKAZANOVIODELJAK BEZLINKAZANOVIODJELJAK BEZNOVEVEZEODELJKA
    BEZNOVEVEZEODJELJKA BEZOBSAHU BEZSPISU BEZVEZEZANOVIODELJAK BEZVEZEZANOVIODJELJAK BEZ_GALERIJE BEZ_INDEKSA
    BEZ_IZMENA BEZ_IZMJENA BEZ_NOVE_VEZE_ODELJKA BEZ_NOVE_VEZE_ODJELJKA CAPDEGALARIA CAPDETAULA CAPGALERIA CAPINDEX
    CAPTAULA CATAMAGADA CATCACHEE CUPRINS DAFTARISI DASI DISAMBIG DISAMBIGUACION EIOSIOMUOKKAUSTA EISISLUETT EMSAFN
    END ENDEKS ENDEKSYOK EXPECTED_UNCONNECTED_PAGE EXPECTUNUSEDCATEGORY EXPECTUNUSEDTEMPLATE EXPECTWITHOUTSCANS
    FARACUPRINS FORCARTDC FORCEERINHOUD FORCERSOMMAIRE FORCERTDM FORCETOC FORTUINDEKSON FORZAINDICE FORZARTDC
    FORZARTOC FORZAR_TDC GEENIC GEENINDEX GEENINHOUD GEENINHOUDCONVERSIE GEENNIEUWESECTIELINK
    GEENNIEUWKOPJEKOPPELING GEENNIEUWKOPJEVERWIJZING GEENPAGINANAAMCONVERSIE GEENTC GEENTITELCONVERSIE GEEN_GALERIJ
    HAKUKONEKIELTO HIDDENCAT INDEKS INDEKSI INDEKSIRAJ INDEKSIRANJE INDEKSO INDEKSU INDEX INDEXAR INDEXIEREN
    INDEXOVAT INDICE INDIZIEREN INGENTOC INHALTSVERZEICHNIS INHALTSVERZEICHNIS_ERZWINGEN INHOUD INHOUD_DWINGEN
    JASIRINSANAT KASXITAKATEGORIO KATEGORITERSEMBUNYI KATSEM KEEPTITLE KEINEGALERIE KEINE_GALERIE
    KEINE_INHALTSKONVERTIERUNG KEINE_TITELKONVERTIERUNG KEININHALTSVERZEICHNIS KEIN_INDEX KEIN_INHALTSVERZEICHNIS
    KEIN_NEUER_ABSCHNITTSLINK KEIN_PLUS_LINK LANS LEGYENTJ LIENNOUVELLESECTION LIGILOALNOVASEKCIO LINKZANOVIODELJAK
    LINKZANOVIODJELJAK MABAW MATJOQ MAZMUNDATQIZW MAZMUNI MAZMUNSIZ MQIZW MSIZ MZMN NEINDEKSIRAJ NEINDEKSO NEINDEKSU
    NEINDEXOVAT NEKONVERTUENHAVON NEKONVERTUTITOLON NEUER_ABSCHNITTSLINK NEWSECTIONLINK NICHT_INDEXIEREN
    NICHT_INDIZIEREN NIETBEWERKBARESECTIE NIEUWESECTIEKOPPELING NIEUWESECTIELINK NINCSTJ NIRDASI NIRDEKS NIRGAL
    NIRKODUL NIRKOSI NIRPRABABA NIRSUBA NNSL NOCC NOCONTENTCONVERT NOCONVERTIRCONTENIDO NOCONVERTIRTITULO NOCT
    NOEDITARSECCION NOEDITSECTION NOGALERIA NOGALLERY NOGLOBAL NOINDEX NOINDEXAR NOINDICE NONEWSECTIONLINK NOTALK
    NOTAULA NOTC NOTDC NOTITLECONVERT NOTOC NOVAVEZAODELJKA NOVAVEZAODJELJKA NOVA_VEZA_ODELJKA NOVA_VEZA_ODJELJKA
    NOVINCULARANUEVASECCION OBSAH PAKSADAFTARISI PAKSADASI PASCAPDESOMARI PASCAPDETDM PENGALIHANSTATIK
    PENGALIHANSTATIS PERMANENTE_WEITERLEITUNG PETIK PETIS PIILOLUOKKA PLUS_LINK PRABABA PRANALABAGIANBARU QSIZ
    REDIRECCIOESTATICA REDIRECCIONESTATICA REDIRECTIONSTATIQUE RESUM SAKRIVENAKAT SAKRIVENAKATEGORIJA SANSCC
    SANSCONVERSIONCONTENU SANSCONVERSIONTITRE SANSCT SECCIONNONEDITABLA SECCIONOEDITABLE SECTIONNONEDITABLE SEMTDC
    SENBILDARO SENGALERIO SENLIGILOALNOVASEKCIO SENREDAKTISEKCIOJN SENREDAKTISEKCION SIN_TDC SISLUETTPAKOTUS
    SKRIVENAKAT SKRIVENAKATEGORIJA SLANS SLNS SOMARI SOMMAIRE SPIS START STATICREDIRECT STATIKAALIDIREKTO
    STATISCHEDOORVERWIJZING STATISCHEREDIRECT TANPADAFTARISI TANPAGALERI TANPAINDEKS TANPAKONVERSIISI
    TANPAKONVERSIJUDUL TANPAPRANALABAGIANBARU TANPASUNTINGANBAGIAN TATJOQ TAULA TDC TOC VERBORGENCAT
    VERSTECKTE_KATEGORIE VEZAZANOVIODELJAK VEZAZANOVIODJELJAK VINCULARANUEVASECCION WARTUNGSKATEGORIE ZESPISEM
    """.split()
)
"""Switches between double underscores, as far as they are written in ASCII; others are known by their letters."""

LANGUAGE_CODES = frozenset(
    """
    aa ab ace ady af als alt am ami an ang ann anp ar arc ary arz as ast atj av avk awa ay az azb ba ban bar bat-smg
    bbc bcl bdr be be-tarask be-x-old bew bg bh bi bjn blk bm bn bo bpy br bs btm bug bxr ca cbk-zam cdo ce ceb ch
    cho chr chy ckb co cr crh cs csb cu cv cy da dag de dga din diq dsb dtp dty dv dz ee egl el eml en eo es et eu
    ext fa fat ff fi fiu-vro fj fo fon fr frp frr fur fy ga gag gan gcr gd gl glk gn gom gor got gpe gsw gu guc gur
    guw gv ha hak haw he hi hif ho hr hsb ht hu hy hyw hz ia iba id ie ig igl ii ik ilo inh io is it iu ja jam jbo
    jv ka kaa kab kaj kbd kbp kcg kg kge ki kj kk kl km kn knc ko koi kr krc ks ksh ku kus kv kw ky la lad lb lbe
    lez lfn lg li lij lld lmo ln lo lrc lt ltg lv lzh mad mai map-bms mdf mg mh mhr mi min mk ml mn mni mnw mo mos
    mr mrj ms mt mus mwl my myv mzn na nah nan nap nb nds nds-nl ne new ng nia nl nn no nov nqo nr nrm nso nup nv ny
    oc olo om or os pa pag pam pap pcd pcm pdc pfl pi pih pl pms pnb pnt ppl ps pt pwn qu rki rm rmy rn ro roa-rup
    roa-tara rsk ru rue rup rw sa sah sat sc scn sco sd se sg sgs sh shi shn shy si simple sk skr sl sm smn sn so sq
    sr srn ss st stq su sv sw syl szl szy ta tay tcy tdd te tet tg th ti tig tk tl tly tn to tok tpi tr trv ts tt
    tum tw ty tyv udm ug uk ur uz ve vec vep vi vls vo vro wa war wo wuu xal xh xmf yi yo yue za zea zgh zh
    zh-classical zh-cn zh-min-nan zh-tw zh-yue zu
    """.split()
)
"""Prefixes of links to the same article in another language."""
